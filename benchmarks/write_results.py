"""Writes docs/results.md, and the table of docs/losses.md, from the records.

    python -m benchmarks.write_results

The sentences are in results.md.jinja; the numbers are computed from the records and from what the
paper prints. A test rebuilds the page and recomputes its numbers.
"""

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from jinja2 import Environment, StrictUndefined

from benchmarks.pages import with_table
from ccloss.bench.comparisons import Comparison, compare
from ccloss.bench.groups import Setting, settings
from ccloss.bench.paper.consistency import inconsistencies
from ccloss.bench.paper.tables import TABLES
from ccloss.bench.report import method_table, paper_tables, verdicts
from ccloss.bench.report.printed import to_markdown
from ccloss.bench.report.text import NONE, interval_text, markdown_table, p_text
from ccloss.bench.results import effective_fields, read_runs
from ccloss.bench.statistics import accuracy_margin
from ccloss.training.records import Record

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
TEMPLATE = ROOT / "benchmarks" / "results.md.jinja"
PAGE = ROOT / "docs" / "results.md"

TABLES_OF_METHODS = {"docs/losses.md": "losses"}
"""Document -> the campaign that its comparison of methods shows."""

SIZES = (96, 256, 1297)
"""Training images of the small-sample question; 1,297 are all of them."""

PAIRS = (
    ("cc", "ce+cam"),
    ("cc reduction=mean", "ce+cam"),
    ("cc", "cc reduction=mean"),
    ("ce+cam", "ce"),
)
"""Methods compared in it, fixed before its runs were made."""


def text() -> str:
    """The whole page."""
    environment = Environment(undefined=StrictUndefined, keep_trailing_newline=True)
    return environment.from_string(TEMPLATE.read_text()).render(
        read=read,
        status=status,
        inconsistencies=inconsistencies,
        tables=tables,
        verdicts=judgements,
        statistics=verdicts.family_words(),
        reading=paper_tables.reading_note(),
        small_sample=small_sample(),
        precisions=precisions(),
        rates=rates(),
        interval=interval,
    )


@cache
def read(name: str) -> list[Record]:
    """The records of a campaign."""
    return read_runs(RESULTS / f"{name}.jsonl").records


def status(records: Sequence[Record]) -> str:
    """Number of cells of each table that were run, at the full protocol and at a smaller scale."""
    lines = [["table", "cells", "at the full protocol", "at a smaller scale"]]
    for table in TABLES.values():
        full: set[object] = set()
        scaled: set[object] = set()
        for record in records:
            match = table.match(effective_fields(record))
            if match is not None and match.column in table.columns:
                (scaled if match.deviations else full).add((match.row, match.column))
        lines.append([table.title, str(len(table.cells())), str(len(full)), str(len(scaled))])
    return markdown_table(lines).strip()


def tables(records: Sequence[Record], names: str) -> str:
    """The tables with those names, each under its own heading."""
    parts = []
    for grid in paper_tables.grids(records):
        if grid.table.name in names.split():
            body = to_markdown(paper_tables.description(grid), [paper_tables.printed(grid)])
            parts.append(f"### {grid.table.heading}\n\n{body.strip()}")
    return "\n\n".join(parts)


def judgements(records: Sequence[Record]) -> str:
    """The verdicts on the claims that these runs are about."""
    judged = verdicts.judge(records)
    absent = verdicts.not_run(judged)
    return verdicts.to_markdown([each for each in judged if each not in absent]).strip()


def small_sample() -> dict[str, str]:
    """Accuracy by size and method, and the planned differences; one family for each size."""
    by_size = {_size(setting): setting for setting in settings(read("small-sample"))}
    accuracy = [["training images", *by_size[SIZES[0]].methods]]
    lines = [["training images", "difference", "points", "95 % interval", "p", "adjusted p"]]
    for size in SIZES:
        rows = _accuracies(by_size[size])
        means = (accuracy_margin(list(rounds.values())).mean for rounds in rows.values())
        accuracy.append([f"{size:,}", *(f"{mean:.2f}" for mean in means)])
        lines += [
            [f"{size:,}", f"{each.row} − {each.other}", *numbers(each)]
            for each in compare(rows, PAIRS, resolution=resolution(by_size[size]))
        ]
    return {
        "accuracy": markdown_table(accuracy).strip(),
        "differences": markdown_table(lines).strip(),
    }


def interval(campaign: str, **fields: int) -> str:
    """95 % interval of CC-Loss minus CE + CAM in the setting with these fields, in points."""
    for setting in settings(read(campaign)):
        if all(setting.first.experiment[name] == value for name, value in fields.items()):
            found = setting.comparison("cc", "ce+cam")
            return interval_text(found.interval if found else None, "+.2f")
    raise KeyError(campaign)


def _size(setting: Setting) -> int:
    return int(setting.first.experiment["train_limit"])


def _accuracies(setting: Setting) -> dict[str, dict[int, float]]:
    return {
        method: {seed: record.accuracy for seed, record in rounds.items()}
        for method, rounds in setting.methods.items()
    }


def resolution(setting: Setting) -> float:
    """Difference of accuracy that one test image makes, in points."""
    return 100 / int(setting.first.evaluation["images"])


def numbers(each: Comparison, form: str = "+.2f") -> list[str]:
    """Cells of a comparison: estimate and interval in this format, p and adjusted p."""
    estimate = NONE if each.estimate is None else format(each.estimate, form)
    interval = interval_text(each.interval, form)
    return [estimate, interval, p_text(each.p), p_text(each.p_adjusted)]


def precisions() -> str:
    """Accuracy in fp32 and bf16 by method, and their difference, one family."""
    (in_fp32,), (in_bf16,) = settings(read("mnist-fp32")), settings(read("mnist-bf16"))
    rows = {f"{method} fp32": rounds for method, rounds in _accuracies(in_fp32).items()}
    rows |= {f"{method} bf16": rounds for method, rounds in _accuracies(in_bf16).items()}
    pairs = [(f"{method} bf16", f"{method} fp32") for method in in_bf16.methods]
    lines = [["method", "fp32", "bf16", "bf16 − fp32", "95 % interval", "p", "adjusted p"]]
    for each in compare(rows, pairs, resolution=resolution(in_fp32)):
        means = [
            f"{accuracy_margin(list(rows[name].values())).mean:.2f}"
            for name in (each.other, each.row)
        ]
        lines.append([each.row.removesuffix(" bf16"), *means, *numbers(each)])
    return markdown_table(lines).strip()


def rates() -> dict[str, str]:
    """The largest simulated false-positive rates, and the power for two published gains."""
    content = json.loads((RESULTS / "false_positives.json").read_text())
    power = content["power"]
    return {
        **{
            group.replace(" ", "_"): f"{rate:.3f}"
            for group, rate in content["largest_family_rate"].items()
        },
        "sign_flips": f"{max(by['10'] for by in content['sign_flips_of_skewed'].values()):.3f}",
        "spread": f"{content['spread_of_a_difference']:.2f}",
        "small": f"{power['0.1']['5']:.2f}",
        "fair": f"{power['0.66']['5']:.2f}",
        "command": content["command"],
    }


def table_of_methods(campaign: str) -> str:
    """The comparison of methods of a campaign."""
    (setting,) = settings(read(campaign))
    return to_markdown(method_table.caption(setting), method_table.tables(setting))


if __name__ == "__main__":
    PAGE.write_text(text())
    print(PAGE)
    for path, campaign in TABLES_OF_METHODS.items():
        page = ROOT / path
        page.write_text(with_table(page.read_text(), campaign, table_of_methods(campaign)))
        print(page)
