"""Writing the files of a report."""

import contextlib
import time
from collections.abc import Mapping
from pathlib import Path

from ccloss.errors import InputError
from ccloss.training.files import temporary_files, write_atomically

STALE_SECONDS = 60
"""Age from which a temporary file is that of a killed report; a write takes milliseconds."""


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
        write_file(folder / name, text.encode(errors="backslashreplace"))
    return [folder / name for name in texts]


def write_file(path: Path, content: bytes) -> None:
    """Writes a file of a report, and removes what killed reports have left beside it.

    Another report may be writing the same file, so that recent temporary files are kept.

    Raises:
        OSError: it could not be written.
    """
    for left in temporary_files(path.parent, path.name):
        with contextlib.suppress(FileNotFoundError):
            if time.time() - left.stat().st_mtime > STALE_SECONDS:
                left.unlink()
    write_atomically(path, content)
