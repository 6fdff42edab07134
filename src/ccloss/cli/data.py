"""``ccloss data``."""

import dataclasses
import json
from datetime import datetime
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from ccloss.cli.console import print_line, print_table, progress_reporter
from ccloss.cli.parameters import DataRoot
from ccloss.data.names import counted

if TYPE_CHECKING:
    from ccloss.data.verification import Verification


def list_data() -> None:
    """List the data sets and their sizes."""
    from ccloss.data.catalog import SOURCES

    rows = [
        (
            source.name,
            f"{source.train:,}",
            f"{source.test:,}",
            str(source.classes),
            str(source.size or "any"),
            str(source.channels),
            source.hub or "scikit-learn",
        )
        for source in SOURCES.values()
    ]
    rows.append(("folder:PATH", "", "", "", "any", "", "a folder of yours: PATH alone will do"))
    rows.append(("hub:OWNER/NAME", "", "", "", "any", "", "the Hugging Face Hub"))
    print_table(("name", "train", "test", "classes", "pixels", "channels", "from"), rows)


def verify(
    name: str,
    /,
    *,
    data_root: DataRoot = None,
    as_json: Annotated[bool, Parameter(name="--json", negative="")] = False,
) -> int:
    """Check counts, classes and labels, and decode every image.

    Args:
        name: A name from `ccloss data list`, a folder, or hub:OWNER/NAME.
        data_root: Folder with the data. Without it they are downloaded from the Hugging Face Hub.
        as_json: Print the result as JSON.
    """
    from ccloss.data.verification import verify as verify_data

    found = verify_data(name, data_root, progress_reporter().track)
    if as_json:
        print(json.dumps(dataclasses.asdict(found), indent=2))
    else:
        _print_verification(found)
    return 1 if found.problems else 0


def cache(*, clear: Annotated[bool, Parameter(negative="")] = False) -> None:
    """List the cache of image headers and decoded images.

    Args:
        clear: Remove all entries.
    """
    from ccloss.data import cache as cached

    entries = cached.entries()
    if clear:
        freed = cached.clear()
        print(f"{counted(len(entries), 'file')} removed, {freed / 1e6:,.1f} MB")
        return
    for entry in entries:
        used = datetime.fromtimestamp(entry.used).strftime("%Y-%m-%d %H:%M")
        print(f"{entry.size / 1e6:10,.1f} MB  {used}  {entry.path.name}")
    total = sum(entry.size for entry in entries)
    print(
        f"{counted(len(entries), 'file')}, {total / 1e6:,.1f} MB of {cached.limit() / 1e6:,.0f} MB "
        f"in {cached.folder()}"
    )


def _print_verification(found: "Verification") -> None:
    rows = [(k, f"{found.train[k]:,}", f"{found.test[k]:,}") for k in found.classes]
    print_table(("class", "train", "test"), rows)
    sizes = [f"{size} ({count:,})" for size, count in list(found.sizes.items())[:5]]
    more = len(found.sizes) - len(sizes)
    print(f"sizes: {', '.join(sizes)}" + (f" and {more:,} more" if more else ""))
    print("modes: " + ", ".join(f"{mode} ({count:,})" for mode, count in found.modes.items()))
    for problem in found.problems:
        print_line(f"problem: {problem}")
    for note in found.notes:
        print_line(f"note: {note}")
    if found.revision:
        print_line(f"revision: {found.revision}")
    if found.fingerprints:
        for split, value in found.fingerprints.items():
            print(f"sha256 of the {split} images: {value}")
    train, test = sum(found.train.values()), sum(found.test.values())
    print_line(f"{found.name}: {train:,} train, {test:,} test, {len(found.classes)} classes")
    print(counted(len(found.problems), "problem") if found.problems else "no problems")
