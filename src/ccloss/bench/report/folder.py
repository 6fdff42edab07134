"""Where a report goes."""

from collections.abc import Mapping
from pathlib import Path

from ccloss.errors import InputError
from ccloss.training.files import write_atomically


def make_folder(path: Path) -> None:
    """Makes a folder and those above it, unless they exist.

    Raises:
        InputError: a file stands in its place.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise InputError(f"{path} is not a folder; choose another for the report") from None


def write_texts(folder: Path, texts: Mapping[str, str]) -> list[Path]:
    """Writes files of a report by name, and returns their paths.

    Raises:
        InputError: a file stands where the folder should be.
        OSError: a file could not be written.
    """
    make_folder(folder)
    for name, text in texts.items():
        write_atomically(folder / name, text.encode())
    return [folder / name for name in texts]
