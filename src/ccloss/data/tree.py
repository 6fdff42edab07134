"""The files of a data set, listed once."""

import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

from ccloss.data.names import counted, listed, printable
from ccloss.errors import InputError

_SUFFIXES = ".avif .bmp .gif .jfif .jp2 .jpeg .jpg .mpo .pgm .png .ppm .tga .tif .tiff .webp"
IMAGE_SUFFIXES = frozenset(_SUFFIXES.split())

_IGNORED = {"__macosx", "thumbs.db", "desktop.ini"}  # and every name that starts with a dot


@dataclass(frozen=True)
class FileTree:
    """The files below a folder, without hidden files and those that systems add.

    Attributes:
        root: The folder.
        files: Sorted paths relative to ``root``, with forward slashes.
    """

    root: Path
    files: tuple[str, ...]

    @cached_property
    def images(self) -> tuple[str, ...]:
        """The image files by their extension."""
        return tuple(file for file in self.files if suffix(file) in IMAGE_SUFFIXES)

    @cached_property
    def by_name(self) -> dict[str, list[str]]:
        """Image files by file name, with and without extension."""
        found: dict[str, list[str]] = {}
        for file in self.images:
            name = PurePosixPath(file)
            for key in {name.name, name.stem}:
                found.setdefault(key, []).append(file)
        return found

    def matching(self, pattern: str) -> list[str]:
        """The files whose relative path contains a regular expression, in any case."""
        expression = re.compile(pattern, re.IGNORECASE)
        return [file for file in self.files if expression.search(file)]

    def below(self, folder: str) -> "FileTree":
        """The files of a subfolder; ``""`` is the root itself."""
        if not folder:
            return self
        start = f"{folder}/"
        files = tuple(f.removeprefix(start) for f in self.files if f.startswith(start))
        return FileTree(self.root / folder, files)


def list_files(root: Path, skip: frozenset[str] = frozenset()) -> FileTree:
    """Lists the files below a folder. Links are followed.

    Args:
        root: The folder.
        skip: Names of subfolders of ``root`` that are left out.

    Raises:
        InputError: The folder does not exist, or a folder cannot be read.
    """
    if not root.is_dir():
        raise InputError(f"data: the folder {printable(str(root))} does not exist; check the path")

    def fail(error: OSError) -> None:
        raise InputError(f"data: {printable(str(error.filename))} cannot be read; {error.strerror}")

    files: list[str] = []
    above: dict[str, tuple[str, ...]] = {str(root): ()}  # folder -> real paths of those above
    for folder, folders, names in os.walk(root, followlinks=True, onerror=fail):
        chain = (*above.pop(folder), os.path.realpath(folder))
        at_root = folder == str(root)
        folders[:] = [
            name
            for name in folders
            if not _is_ignored(name)
            and not (at_root and name in skip)
            and os.path.realpath(os.path.join(folder, name)) not in chain  # a link to one above
        ]
        above.update((os.path.join(folder, name), chain) for name in folders)
        prefix = "" if at_root else f"{Path(folder).relative_to(root).as_posix()}/"
        files += [prefix + name for name in names if not _is_ignored(name)]
    return FileTree(root, tuple(sorted(files)))


def suffix(file: str) -> str:
    return PurePosixPath(file).suffix.lower()


def common_folder(files: Sequence[str]) -> str:
    """The deepest folder that contains all files; ``""`` is the root."""
    return os.path.commonpath([os.path.dirname(file) or "." for file in files]).lstrip(".")


def other_files_note(files: Sequence[str]) -> tuple[str, ...]:
    """A note on files that are not images, by extension."""
    counts = Counter(suffix(file) or "without extension" for file in files)
    if not counts:
        return ()
    kinds = [f"{kind} {count:,}" for kind, count in counts.most_common()]
    total = counted(sum(counts.values()), "file")
    return (f"{total} with other extensions left out: {listed(kinds, 8)}",)


def _is_ignored(name: str) -> bool:
    return name.startswith(".") or name.casefold() in _IGNORED
