"""The ``ccloss`` command."""

import sys
from collections.abc import Sequence

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code.

    ``pip install ccloss`` installs the library alone. The command needs the packages of the extra
    ``bench``; without them it prints one line and returns 2.
    """
    try:
        from ccloss.cli.app import main as run
    except ModuleNotFoundError as error:
        if (error.name or "ccloss").partition(".")[0] == "ccloss":
            raise
        print(
            f"error: the command needs the package {error.name}, which is not installed; "
            'run: pip install "ccloss[bench]"',
            file=sys.stderr,
        )
        return 2
    return run(arguments)
