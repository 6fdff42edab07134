"""Writes docs/results.md from the records under benchmarks/results.

    python benchmarks/write_results.py

Its sentences are in results.md.jinja beside this file; its numbers are computed from the records
and from what the paper printed. A test rebuilds the page and compares.
"""

from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, StrictUndefined

from ccloss.bench.experiment import Experiment
from ccloss.bench.paper import TABLES, Table
from ccloss.bench.report import claims, reproduction
from ccloss.bench.report.text import markdown_table
from ccloss.bench.results import read_runs
from ccloss.bench.statistics import accuracy_margin, holm, paired_test
from ccloss.training.records import Record

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
TEMPLATE = ROOT / "benchmarks" / "results.md.jinja"
PAGE = ROOT / "docs" / "results.md"

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
        inconsistencies=claims.published_inconsistencies,
        tables=paper_tables,
        verdicts=verdicts,
        small_sample=small_sample(),
        precisions=precisions(),
    )


def read(name: str, train_limit: int | None = None) -> list[Record]:
    """The records of a campaign, or those with one limit of training images."""
    records = read_runs(RESULTS / f"{name}.jsonl").records
    return [r for r in records if train_limit in (None, r.experiment["train_limit"])]


def status(records: Sequence[Record]) -> str:
    """How many cells of each table have been run, at the full protocol and at a smaller scale."""
    lines = [["table", "cells", "at the full protocol", "at a smaller scale"]]
    for table in TABLES.values():
        full: set[object] = set()
        scaled: set[object] = set()
        for record in records:
            match = table.match(record.experiment)
            if match is not None and match.column in table.columns:
                (scaled if match.departures else full).add((match.row, match.column))
        count = len(table.cells())
        lines.append([table.title, str(count), str(len(full)), str(len(scaled))])
    return markdown_table(lines, numbers=True).strip()


def paper_tables(records: Sequence[Record], names: str) -> str:
    """The tables with those names, each under its own heading."""
    return "\n\n".join(
        f"### {_heading(grid.table)}\n\n{reproduction.to_markdown(grid).strip()}"
        for grid in reproduction.grids(records)
        if grid.table.name in names.split()
    )


def _heading(table: Table) -> str:
    return table.name.replace("table", "Table ").replace("figure", "Figure ")


def verdicts(records: Sequence[Record]) -> str:
    """What these runs say of the claims that they are about."""
    judged = [verdict for verdict in claims.judge(records) if verdict.verdict != "not run"]
    return claims.to_markdown(judged).strip()


def small_sample() -> dict[str, str]:
    """Accuracy by size and method, and the differences that were asked for."""
    by_size = {size: _by_method(read("small-sample", size)) for size in SIZES}
    accuracy = [["training images", *next(iter(by_size.values()))]]
    compared = []
    for size, methods in by_size.items():
        means = [accuracy_margin(list(rounds.values())) for rounds in methods.values()]
        accuracy.append([f"{size:,}", *(f"{mean.mean:.2f}" for mean in means)])
        for one, other in PAIRS:
            seeds = sorted(methods[one].keys() & methods[other].keys())
            test = paired_test(
                [methods[one][seed] for seed in seeds], [methods[other][seed] for seed in seeds]
            )
            compared.append((size, f"{one} − {other}", test))
    adjusted = holm([test.p_value for _, _, test in compared])
    differences = [
        ["training images", "difference", "points", "95 % interval", "d_z", "p", "p (Holm)"]
    ]
    for (size, name, test), p in zip(compared, adjusted, strict=True):
        low, high = test.interval
        effect = "–" if test.effect is None else f"{test.effect:+.2f}"
        numbers = [f"{test.difference:+.2f}", f"{low:+.2f} to {high:+.2f}", effect]
        ps = [reproduction.p_text(test.p_value), reproduction.p_text(p)]
        differences.append([f"{size:,}", name, *numbers, *ps])
    return {
        "accuracy": markdown_table(accuracy, numbers=True).strip(),
        "differences": markdown_table(differences, numbers=True).strip(),
    }


def precisions() -> str:
    """Accuracy in fp32 and in bf16 by method, and their difference paired by seed."""
    in_fp32, in_bf16 = _by_method(read("mnist")), _by_method(read("mnist-bf16"))
    lines = [["method", "fp32", "bf16", "bf16 − fp32", "95 % bootstrap interval", "p (t-test)"]]
    for method, found in in_bf16.items():
        seeds = sorted(found.keys() & in_fp32[method].keys())
        rounds = [[runs[method][seed] for seed in seeds] for runs in (in_bf16, in_fp32)]
        test = paired_test(*rounds)
        low, high = test.interval
        means = [f"{accuracy_margin(each).mean:.2f}" for each in reversed(rounds)]
        cells = [f"{test.difference:+.2f}", f"{low:+.2f} to {high:+.2f}"]
        lines.append([method, *means, *cells, reproduction.p_text(test.p_value)])
    return markdown_table(lines, numbers=True).strip()


def _by_method(records: Sequence[Record]) -> dict[str, dict[int, float]]:
    """Method -> seed -> accuracy; methods from plain cross-entropy on."""
    order = [Experiment(loss=name).resolve().method for name in ("ce", "ce+cam", "cc")]
    found: dict[str, dict[int, float]] = {name: {} for name in order}
    for record in records:
        found.setdefault(record.method, {})[record.seed] = record.accuracy
    return found


if __name__ == "__main__":
    PAGE.write_text(text())
    print(PAGE)
