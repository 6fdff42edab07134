"""``ccloss reproduce``: the paper's tables."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cyclopts import Parameter

from ccloss.bench.paper.tables import FIGURE3, ROUNDS, TABLES, select
from ccloss.bench.paper.tables import Table as PaperTable
from ccloss.cli.campaign import execute, print_costs, require_consistent
from ccloss.cli.console import is_main_process, print_line, print_table
from ccloss.cli.parameters import Resources
from ccloss.cli.report import write_report
from ccloss.errors import InputError, did_you_mean
from ccloss.training.config import Precision
from ccloss.training.records import Record


@Parameter(name="*")
@dataclass(frozen=True)
class Scale:
    """Settings of a reproduction that differ from the paper's."""

    epochs: int | None = None
    """Passes over the training images (paper: 300)."""

    max_steps: int | None = None
    """Stop after this many steps. The learning rate schedule is shortened accordingly."""

    train_limit: int | None = None
    """Number of training images, stratified by class."""

    test_limit: int | None = None
    """Number of test images, stratified by class."""

    evaluate_every: int | None = None
    """Epochs between evaluations. The last epoch is always evaluated."""

    precision: Precision | None = None
    """Precision of the network (default: fp32 on every device). Losses always use fp32."""

    learning_rate: float | None = None
    """Learning rate at the first step (paper: 0.1)."""

    final_learning_rate: float | None = None
    """Learning rate at the last step (paper: 1e-5)."""

    seed: int | None = None
    """Seed of the first round. Those of the other rounds count up."""


def reproduce(
    tables: str,
    /,
    *,
    only: str = "",
    rounds: int = ROUNDS,
    data: str | None = None,
    backbone: str | None = None,
    scale: Scale = Scale(),
    out: Path = Path("runs/paper"),
    resources: Resources = Resources(),
    dry_run: bool = False,
) -> int:
    """Run the paper's tables and show published and measured results side by side.

    Finished runs are not repeated and interrupted runs continue. Tables share the runs that they
    have in common. With figure3, figures are drawn too.

    Args:
        tables: table1, table2, table3, table4, table5 or figure3, several separated by commas, or
            all.
        only: Cells to run, separated by commas: `cifar100/resnet18/cc`, `mnist`, `*/vgg16/ce*`.
        rounds: Number of runs per cell. Their seeds count up from --seed.
        data: Run one of the paper's data sets only, or another data set instead of them.
        backbone: Run one of the paper's backbones only, or another backbone instead of them.
        scale: Settings that differ from the paper's.
        out: Folder of the runs.
        resources: Where and how the runs are executed.
        dry_run: List the runs, their state and their estimated time. Train nothing.
    """
    from ccloss.bench.campaign.plan import plan

    require_consistent(resources)
    selected = _tables(tables)
    fields = {name: value for name, value in vars(scale).items() if value is not None}
    cells = [
        cell for table in selected for cell in table.cells(data=data, backbone=backbone, **fields)
    ]
    experiments = [cell.experiment for cell in select(cells, only)]
    runs = plan(experiments, rounds, out, resources.data_root)
    if dry_run:
        print_costs(runs, resources)
        return 0
    failed = execute(runs, resources)
    if is_main_process():
        from ccloss.bench.results import read_runs

        finished = [run.folder.read_record() for run in runs if run.folder.finished]
        _print_reproduction(finished, selected)
        write_report(read_runs(out), out, figures=FIGURE3 in selected)
    return 1 if failed else 0


def _tables(names: str) -> list[PaperTable]:
    if names == "all":
        return list(TABLES.values())
    chosen = list(dict.fromkeys(name.strip() for name in names.split(",")))
    for name in chosen:
        if name not in TABLES:
            near = did_you_mean(name, TABLES)
            raise InputError(
                f"tables must be all or some of {', '.join(TABLES)}, got {name!r}{near}"
            )
    return [TABLES[name] for name in chosen]


def _print_reproduction(records: Sequence[Record], tables: Sequence[PaperTable]) -> None:
    """Prints published and measured results, and the verdicts on the paper's claims."""
    from ccloss.bench.report import paper_tables, verdicts

    for grid in paper_tables.grids(records):
        if grid.table in tables:
            table = paper_tables.printed(grid)
            print_table(table.names, table.texts)
            print_line(paper_tables.caption(grid))
    claims = []
    for verdict in verdicts.judge(records):
        if verdict.claim.table in tables:
            elsewhere = [f"{each.label} ({each.column})" for each in verdict.elsewhere]
            claims.append((verdict.claim.statement, verdict.headline, "; ".join(elsewhere)))
    print_table(("claim of the paper", "at the full protocol", "elsewhere"), claims)
