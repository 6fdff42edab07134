"""The interface of progress bars."""

from collections.abc import Iterable
from typing import Protocol, TypeVar

T = TypeVar("T")


class Track(Protocol):
    """Passes the items of an iterable on and may show the progress."""

    def __call__(self, iterable: Iterable[T], description: str, total: int) -> Iterable[T]: ...


def untracked(iterable: Iterable[T], description: str, total: int) -> Iterable[T]:
    """A :class:`Track` that shows nothing."""
    return iterable
