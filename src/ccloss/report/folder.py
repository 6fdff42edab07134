"""Where a report goes."""

from pathlib import Path

from ccloss.errors import InputError


def make_folder(path: Path) -> None:
    """Makes a folder and those above it, unless they exist.

    Raises:
        InputError: a file stands in its place.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise InputError(f"{path} is not a folder; choose another for the report") from None
