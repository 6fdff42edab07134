"""Atomic writes of files, and JSON that may be damaged."""

import contextlib
import errno
import json
import os
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from ccloss.errors import InputError

_UNSUPPORTED = frozenset({errno.EINVAL, errno.ENOTSUP, errno.EACCES, errno.EISDIR})
"""Errors of file systems and platforms that cannot sync a directory."""


def write_atomically(path: Path, content: bytes) -> None:
    """Writes a complete file or none: a reader, a kill or a full disk never leaves half of it.

    Raises:
        OSError: it could not be written; names the file.
    """
    with open_atomically(path) as file:
        file.write(content)


@contextlib.contextmanager
def open_atomically(path: Path) -> Iterator[BinaryIO]:
    """A file to write, which replaces ``path`` at the end of the block if there is no error.

    Raises:
        OSError: it could not be written; names the file.
    """
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
    with naming(path):
        try:
            with open(temporary, "xb") as file:  # with the permissions that the umask allows
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        sync_directory(path.parent)


def append_line(path: Path, content: Mapping[str, Any]) -> None:
    """Appends an object to a JSON Lines file.

    Raises:
        OSError: it could not be written; names the file.
    """
    line = (json.dumps(content, allow_nan=False) + "\n").encode()
    created = not path.exists()
    with naming(path), path.open("ab") as file:
        file.write(line)
        file.flush()
        os.fsync(file.fileno())
    if created:
        sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Makes the names in a directory survive a power failure, where the file system supports it."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except OSError as error:
        if error.errno in _UNSUPPORTED:
            return
        raise
    try:
        with naming(path):
            os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise
    finally:
        os.close(descriptor)


def temporary_files(folder: Path, name: str) -> list[Path]:
    """What killed writes of ``folder / name`` have left."""
    return list(folder.glob(f".{name}.*"))


def to_json(content: Mapping[str, Any]) -> bytes:
    """An object as indented JSON.

    Raises:
        ValueError: it contains NaN or infinity.
    """
    return (json.dumps(content, indent=2, allow_nan=False) + "\n").encode()


def read_json(path: Path, description: str) -> dict[str, Any]:
    """Reads a JSON object.

    Args:
        path: of the file.
        description: what a folder with this file is.

    Raises:
        InputError: the file is missing or damaged.
        OSError: it could not be read.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise InputError(f"{path.parent} is not {description}: it has no {path.name}") from None
    except NotADirectoryError:
        raise InputError(f"{path.parent} is not a folder") from None
    return parse_object(content, str(path))


def parse_object(content: bytes, source: str) -> dict[str, Any]:
    """Parses a JSON object; ``source`` names it in errors.

    Raises:
        InputError: it is not UTF-8, not JSON, nested too deeply, or not an object.
    """
    reason = "it is not a JSON object"
    try:
        parsed = json.loads(content)
    except RecursionError:
        reason = "it is nested too deeply"
    except ValueError as error:
        reason = str(error)
    else:
        if isinstance(parsed, dict):
            return parsed
    raise InputError(f"{source} is damaged ({reason}); train the run again with --overwrite")


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Adds the file's name to an error of the operating system that has none."""
    try:
        yield
    except OSError as error:
        if error.errno and error.filename is None:
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise
