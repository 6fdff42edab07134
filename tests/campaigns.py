"""Small campaigns, and who listens to them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ccloss.bench.campaign.loop import Outcome
from ccloss.bench.campaign.plan import Run, plan
from runs import small_experiment


@dataclass
class Log:
    """Remembers what a campaign tells."""

    begun_runs: list[str] = field(default_factory=list)
    outcomes: list[Outcome] = field(default_factory=list)
    waits: list[int] = field(default_factory=list)

    def begun(self, run: Run) -> None:
        self.begun_runs.append(run.name)

    def ended(self, outcome: Outcome) -> None:
        self.outcomes.append(outcome)

    def waiting(self, runs: Sequence[Run]) -> None:
        self.waits.append(len(runs))


def small_plan(out: Path, rounds: int = 2, losses: str = "ce,cc", **fields: Any) -> list[Run]:
    """Rounds of some losses, three epochs of four steps each."""
    experiments = [small_experiment(loss=loss, **fields) for loss in losses.split(",")]
    return plan(experiments, rounds, out)


def results(runs: Sequence[Run]) -> dict[str, Any]:
    """What must not depend on how a campaign went: evaluations, weights, and epochs kept."""
    return {
        run.name: (
            run.folder.read_record().evaluation,
            run.folder.model.read_bytes(),
            [(line["epoch"], line["terms"]) for line in run.folder.read_metrics()],
        )
        for run in runs
    }
