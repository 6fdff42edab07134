"""Stored images: files, rows of a table, or arrays."""

import hashlib
from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, final

import numpy as np

from ccloss.data.names import printable

if TYPE_CHECKING:
    import datasets

Pixels = np.ndarray[Any, np.dtype[np.uint8]]


class Store(Protocol):
    """Stored images by row. Stores are picklable, so loader workers can read them."""

    def __len__(self) -> int: ...

    def location(self, row: int) -> str:
        """The file or row of an image, for messages."""

    def path(self, row: int) -> str | None:
        """The relative path of an image, or ``None`` if images have no path."""

    def read(self, row: int) -> bytes | Pixels:
        """The encoded bytes of an image, or its pixels as (H, W) or (H, W, 3) uint8.

        Raises:
            OSError: The file cannot be read.
        """

    def stamp(self, rows: Iterable[int]) -> str | None:
        """A digest that changes when the stored files change; ``None`` if it is unknown."""


@final
@dataclass(frozen=True)
class FileStore:
    """One file per image.

    Attributes:
        root: Folder that contains the files.
        files: Paths relative to ``root``.
    """

    root: Path
    files: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.files)

    def location(self, row: int) -> str:
        return printable(str(self.root / self.files[row]))

    def path(self, row: int) -> str | None:
        return self.files[row]

    def read(self, row: int) -> bytes:
        with open(self.root / self.files[row], "rb") as file:
            return file.read()

    def stamp(self, rows: Iterable[int]) -> str | None:
        return _stamp(self.root / self.files[row] for row in rows)


@final
@dataclass(frozen=True)
class RowStore:
    """Encoded images in a column of a memory-mapped ``datasets.Dataset``.

    Attributes:
        rows: The data set.
        column: Name of the image column. Its values are bytes, paths, or ``{"bytes", "path"}``.
        shards: (name, number of rows) of each part in order, for messages.
        root: Folder that relative paths start from.
        files: Files that the rows come from, for :meth:`stamp`.
    """

    rows: "datasets.Dataset"
    column: str
    shards: tuple[tuple[str, int], ...]
    root: Path | None = None
    files: tuple[Path, ...] = ()

    def __len__(self) -> int:
        return len(self.rows)

    def location(self, row: int) -> str:
        ends = list(accumulate(count for _, count in self.shards))
        shard = bisect_right(ends, row)
        name, count = self.shards[shard]
        return f"{printable(name)}, row {row - ends[shard] + count}"

    def path(self, row: int) -> str | None:
        return None

    def read(self, row: int) -> bytes:
        # The Arrow value is read directly. `rows[row]` would decode the image and raise errors
        # that do not name the row.
        value = self.rows.data.column(self.column)[row].as_py()
        if isinstance(value, dict):
            value = value.get("bytes") or value.get("path")
        if isinstance(value, str):
            with open((self.root or Path()) / value, "rb") as file:
                return file.read()
        return value or b""

    def stamp(self, rows: Iterable[int]) -> str | None:
        kind = str(self.rows.data.column(self.column).type)
        if kind.startswith(("string", "large_string")):
            return None  # the images are other files
        stamp = _stamp(self.files) if self.files else None
        if stamp is None:
            return None
        return hashlib.sha256(f"{stamp} {self.column} {list(rows)}".encode()).hexdigest()


@final
@dataclass(frozen=True)
class ArrayStore:
    """Decoded images in one array.

    Attributes:
        name: Name of the file or package, for messages.
        arrays: (N, H, W) or (N, H, W, 3) uint8.
    """

    name: str
    arrays: Pixels

    def __len__(self) -> int:
        return len(self.arrays)

    def location(self, row: int) -> str:
        return f"{printable(self.name)}, row {row}"

    def path(self, row: int) -> str | None:
        return None

    def read(self, row: int) -> Pixels:
        pixels: Pixels = self.arrays[row]
        return pixels

    def stamp(self, rows: Iterable[int]) -> str | None:
        return None


def _stamp(files: Iterable[Path]) -> str | None:
    """A digest of the names, sizes and modification times of files."""
    sha = hashlib.sha256()
    for file in files:
        try:
            stat = file.stat()
        except OSError:
            return None
        sha.update(str(file).encode("utf-8", "surrogateescape"))
        sha.update(f"\0{stat.st_size} {stat.st_mtime_ns} {stat.st_mode}\0".encode())
    return sha.hexdigest()
