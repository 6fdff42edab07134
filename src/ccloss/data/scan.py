"""Headers and content digests of stored images, read once and kept in the cache."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ccloss.data.cache import Arrays, cached
from ccloss.data.decoding import inspect, read_content
from ccloss.data.progress import Track, untracked
from ccloss.data.stores import Store
from ccloss.errors import InputError

DIGEST_BYTES = 16


@dataclass(frozen=True)
class Scan:
    """What is known about N stored images before their pixels are decoded.

    Attributes:
        digests: (N, 16) uint8, the first bytes of the SHA-256 of each stored image.
        sizes: (N, 2) int32, width and height in pixels; 0 for unreadable images.
        modes: (N,) pixel formats by Pillow's names; empty for unreadable images.
        problems: One line for each unreadable image.
        warnings: One line for each message of a decoder.
    """

    digests: np.ndarray[Any, np.dtype[np.uint8]]
    sizes: np.ndarray[Any, np.dtype[np.int32]]
    modes: np.ndarray[Any, np.dtype[np.str_]]
    problems: tuple[str, ...]
    warnings: tuple[str, ...]


def scan(
    store: Store,
    rows: Sequence[int],
    description: str = "headers",
    track: Track = untracked,
    *,
    use_cache: bool = True,
) -> Scan:
    """Reads the headers and digests of stored images.

    The result is cached under the names, sizes and modification times of the files, unless an image
    cannot be read.

    Args:
        store: The images.
        rows: Which of them.
        description: Title of the progress bar.
        track: Shows the progress.
        use_cache: ``False`` reads all files again.
    """

    def make() -> Arrays:
        return _read_headers(store, rows, description, track)

    stamp = store.stamp(rows) if use_cache else None
    arrays = make() if stamp is None else cached(f"headers-{stamp[:32]}", make, _is_readable)
    return Scan(
        arrays["digests"],
        arrays["sizes"],
        arrays["modes"],
        tuple(json.loads(str(arrays["problems"]))),
        tuple(json.loads(str(arrays["warnings"]))),
    )


def _is_readable(arrays: Arrays) -> bool:
    """Whether every image was read; a problem may be solved without a change of the file."""
    return not json.loads(str(arrays["problems"]))


def _read_headers(store: Store, rows: Sequence[int], description: str, track: Track) -> Arrays:
    digests = np.zeros((len(rows), DIGEST_BYTES), dtype=np.uint8)
    sizes = np.zeros((len(rows), 2), dtype=np.int32)
    modes = [""] * len(rows)
    problems: list[str] = []
    messages: list[str] = []
    for position, row in enumerate(track(rows, description, len(rows))):
        location = store.location(row)
        try:
            content = read_content(store, row)
            data = content if isinstance(content, bytes) else content.tobytes()
            digest = hashlib.sha256(data).digest()[:DIGEST_BYTES]
            digests[position] = np.frombuffer(digest, dtype=np.uint8)
            header = inspect(content, location)
        except InputError as error:
            problems.append(str(error))
            continue
        sizes[position] = header.width, header.height
        modes[position] = header.mode
        messages += [f"{location}: {message}" for message in header.warnings]
    return {
        "digests": digests,
        "sizes": sizes,
        "modes": np.array(modes, dtype=np.str_),
        "problems": np.array(json.dumps(problems)),
        "warnings": np.array(json.dumps(messages)),
    }
