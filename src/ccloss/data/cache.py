"""A cache of arrays on disk: headers of image files, and decoded small data sets.

The cache is in ``$CCLOSS_CACHE``, by default ``~/.cache/ccloss`` (``$XDG_CACHE_HOME/ccloss``).
It holds at most ``$CCLOSS_CACHE_GB`` gigabytes, by default 4; the entries that were used least
recently are removed. 0 turns the cache off. Several processes may use it: the first one makes an
entry while the others wait, and entries appear under their name only when they are complete.
"""

import contextlib
import os
import tempfile
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ccloss.errors import InputError

Arrays = dict[str, np.ndarray[Any, Any]]

FOLDER_VARIABLE = "CCLOSS_CACHE"
SIZE_VARIABLE = "CCLOSS_CACHE_GB"
DEFAULT_GIGABYTES = 4.0


class Entry(NamedTuple):
    """One cached file.

    Attributes:
        path: The file.
        size: In bytes.
        used: Time of last use, in seconds since the epoch.
    """

    path: Path
    size: int
    used: float


def folder() -> Path:
    """The folder of the cache, which may not exist yet."""
    chosen = os.environ.get(FOLDER_VARIABLE)
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(chosen or Path(base) / "ccloss").expanduser()


def limit() -> int:
    """The largest size of the cache in bytes."""
    text = os.environ.get(SIZE_VARIABLE, str(DEFAULT_GIGABYTES))
    try:
        gigabytes = float(text)
    except ValueError:
        gigabytes = -1.0
    if not 0 <= gigabytes < 1e9:
        raise InputError(f"{SIZE_VARIABLE} must be a number of gigabytes, got {text!r}")
    return int(gigabytes * 1e9)


def entries() -> list[Entry]:
    """The cached files, the most recently used first."""
    found = []
    for path in folder().glob("*.npz"):
        with contextlib.suppress(OSError):  # another process may remove it
            stat = path.stat()
            found.append(Entry(path, stat.st_size, stat.st_mtime))
    return sorted(found, key=lambda entry: -entry.used)


def clear() -> int:
    """Removes all entries and returns the number of bytes freed."""
    freed = 0
    for entry in entries():
        entry.path.unlink(missing_ok=True)
        freed += entry.size
    for path in (*folder().glob("*.lock"), *folder().glob("*.part")):
        path.unlink(missing_ok=True)
    return freed


def cached(
    name: str, make: Callable[[], Arrays], keep: Callable[[Arrays], bool] = lambda _: True
) -> Arrays:
    """The arrays of an entry; they are made and stored if the cache does not hold them.

    Args:
        name: Name of the entry. It must contain a digest of everything that decides the arrays.
        make: Makes the arrays.
        keep: Whether arrays may be stored and used again.
    """
    if not limit():
        return make()
    path = folder() / f"{name}.npz"
    found = _read(path)
    if found is not None and keep(found):
        return found
    with _locked(path):
        found = _read(path)  # another process may have made it meanwhile
        if found is None or not keep(found):
            found = make()
            if keep(found):
                _write(path, found)
    return found


def _read(path: Path) -> Arrays | None:
    """The arrays of a file, or ``None`` if it is missing or its checksums do not match."""
    try:
        with open(path, "rb") as stream, np.load(stream, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile):
        return None
    with contextlib.suppress(OSError):  # a shared cache may be read-only
        os.utime(path)
    return arrays


def _write(path: Path, arrays: Arrays) -> None:
    if sum(array.nbytes for array in arrays.values()) > limit():
        return
    part = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".part", delete=False) as file:
            part = Path(file.name)
            np.savez(file, **arrays)  # type: ignore[arg-type]
        part.replace(path)
    except OSError as error:
        warnings.warn(f"the cache {path.parent} cannot be written: {error}", stacklevel=2)
        if part is not None:
            part.unlink(missing_ok=True)
        return
    _shrink()


def _shrink() -> None:
    """Removes the entries that were used least recently, until the cache is within its limit."""
    total = 0
    for entry in entries():
        total += entry.size
        if total > limit():
            entry.path.unlink(missing_ok=True)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Holds the lock of an entry. Without locking, two processes may make the same entry."""
    from filelock import FileLock

    lock = FileLock(path.with_suffix(".lock"), fallback_to_soft=False)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except (OSError, NotImplementedError):
        pass
    try:
        yield
    finally:
        lock.release()
