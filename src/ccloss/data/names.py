"""Names of classes, files and folders as one line of text."""

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


def _escape(character: str) -> str:
    if "\udc80" <= character <= "\udcff":  # a byte that is not UTF-8, read by surrogateescape
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character.encode("unicode_escape").decode()
