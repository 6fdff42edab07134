"""Writing the files of a report."""

from collections.abc import Mapping
from pathlib import Path

from ccloss.errors import InputError
from ccloss.training.files import write_atomically


def make_folder(path: Path) -> None:
    """Creates a folder and its parents, unless they exist.

    Raises:
        InputError: there is a file of its name.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        raise InputError(f"{path} is not a folder; choose another for the report") from None


def write_texts(folder: Path, texts: Mapping[str, str]) -> list[Path]:
    """Writes the files of a report and returns their paths.

    Raises:
        InputError: there is a file where the folder should be.
        OSError: a file could not be written.
    """
    make_folder(folder)
    for name, text in texts.items():
        write_atomically(folder / name, text.encode())
    return [folder / name for name in texts]
