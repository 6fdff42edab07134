"""The ``ccloss`` command."""

import sys
from collections.abc import Sequence

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code, see :func:`ccloss.cli.app.main`.

    ``pip install ccloss`` installs the library alone. The command needs the packages of the extra
    ``bench``; if one is missing it prints one line and returns 2.
    """
    try:
        from ccloss.cli.app import main as run

        return run(arguments)
    except ModuleNotFoundError as error:
        package = (error.name or "ccloss").partition(".")[0]
        if package == "ccloss":
            raise
        print(
            f"error: the command needs the package {package}, which is not installed; "
            'run: pip install "ccloss[bench]"',
            file=sys.stderr,
        )
        return 2
