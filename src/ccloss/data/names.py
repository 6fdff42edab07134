"""Names, lists and numbers as one line of text."""

from collections.abc import Sequence
from unicodedata import category

_ESCAPED = ("Cc", "Cs", "Zl", "Zp")
"""Unicode categories: control characters, surrogates, and separators of lines and paragraphs."""


def printable(text: str) -> str:
    r"""The text in one line that can be encoded as UTF-8.

    Control characters, line separators, and bytes that are not UTF-8 are replaced by escapes such
    as ``\n`` and ``\xe9``. Letters of any script stay as they are.
    """
    if text.isprintable():
        return text
    return "".join(_escape(char) if category(char) in _ESCAPED else char for char in text)


def listed(items: Sequence[object], most: int = 5) -> str:
    """The first items, separated by commas, and the number of the others."""
    shown = ", ".join(str(item) for item in items[:most]) or "none"
    return shown if len(items) <= most else f"{shown} and {len(items) - most:,} more"


def counted(count: int, noun: str, plural: str | None = None) -> str:
    """A number with its noun, such as ``1 image`` or ``2,000 images``."""
    return f"{count:,} {noun if count == 1 else plural or noun + 's'}"


def _escape(character: str) -> str:
    if "\udc80" <= character <= "\udcff":  # a byte that is not UTF-8, read by surrogateescape
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character.encode("unicode_escape").decode()
