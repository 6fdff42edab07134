"""Tables of the documentation that are made from results."""

END = "<!-- end -->"


def with_table(document: str, name: str, table: str) -> str:
    """The document with the table between ``<!-- NAME: ... -->`` and the next end comment replaced.

    Args:
        document: Markdown.
        name: of the table, at the start of its first comment.
        table: Markdown.

    Raises:
        ValueError: the document has no such comments.
    """
    before, start, rest = document.partition(f"<!-- {name}:")
    comment, stop, rest = rest.partition("-->\n")
    _, end, after = rest.partition(END)
    if not (start and stop and end):
        raise ValueError(f"no table {name!r} in the document")
    return f"{before}{start}{comment}{stop}{table}{end}{after}"
