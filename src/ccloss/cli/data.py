"""``ccloss data``."""

from rich.console import Console
from rich.table import Table

from ccloss.cli.console import counted, progress_reporter
from ccloss.cli.parameters import DataRoot


def list_data() -> None:
    """List the data sets and their sizes."""
    from ccloss.data.catalog import SOURCES

    table = Table("name", "train", "test", "classes", "pixels", "channels", "from")
    for source in SOURCES.values():
        table.add_row(
            source.name,
            f"{source.train:,}",
            f"{source.test:,}",
            str(source.classes),
            str(source.size or "any"),
            str(source.channels),
            source.hub or "scikit-learn",
        )
    table.add_row("folder:<path>", "", "", "", "any", "", "train/<class>/ and test/<class>/")
    Console().print(table)


def verify(name: str, /, *, data_root: DataRoot = None) -> int:
    """Read a complete data set and check its counts, its labels and every image.

    Args:
        name: A name from `ccloss data list`.
        data_root: Folder with the data. Without it they are downloaded from the Hugging Face Hub.
    """
    from ccloss.data.sources import verify as verify_source

    found = verify_source(name, data_root, progress_reporter().track)
    for problem in found.problems:
        print(problem)
    print(f"{name}: {found.train:,} train, {found.test:,} test, {found.classes} classes")
    if found.fingerprints:
        print(f"sha256: train {found.fingerprints[0]}\n        test  {found.fingerprints[1]}")
    print(counted(len(found.problems), "problem") if found.problems else "no problems")
    return 1 if found.problems else 0
