"""Small campaigns, and an observer that records what it receives."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ccloss.bench.campaign.plan import Run, plan
from ccloss.bench.campaign.scheduler import Outcome
from small_runs import small_experiment


@dataclass
class Log:
    """Records the progress of a campaign."""

    started_runs: list[str] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)
    waits: list[int] = field(default_factory=list)

    def started(self, run: Run) -> None:
        self.started_runs.append(run.name)

    def ended(self, outcome: Outcome) -> None:
        self.outcomes.append(outcome)

    def waiting(self, runs: Sequence[Run]) -> None:
        self.waits.append(len(runs))


def small_plan(out: Path, rounds: int = 2, losses: str = "ce,cc", **fields: Any) -> list[Run]:
    """Rounds of some losses, three epochs of four steps each."""
    experiments = [small_experiment(loss=loss, **fields) for loss in losses.split(",")]
    return plan(experiments, rounds, out)


def results(runs: Sequence[Run]) -> dict[str, Any]:
    """Evaluations, weights and metrics of each run, which must not depend on its execution."""
    return {
        run.name: (
            run.folder.read_record().evaluation,
            run.folder.model.read_bytes(),
            [(line["epoch"], line["terms"]) for line in run.folder.read_metrics()],
        )
        for run in runs
    }
