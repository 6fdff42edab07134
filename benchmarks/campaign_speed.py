"""How much faster a campaign ends with two workers than with one, one thread each.

    python benchmarks/campaign_speed.py --out benchmarks/results/campaign_speed.json

Each pair does the same runs twice, with one worker and with two; the order changes from pair to
pair. Both have worker processes, so that their start-up is in both. The ratio of each pair and
their median are kept.
"""

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from ccloss.bench.campaign.executors import ProcessExecutor
from ccloss.bench.campaign.plan import Run, plan
from ccloss.bench.campaign.scheduler import Outcome, run_campaign
from ccloss.bench.experiment import Experiment
from ccloss.training.provenance import provenance


class Quiet:
    """An observer that says nothing."""

    def started(self, run: Run) -> None: ...

    def ended(self, outcome: Outcome) -> None: ...

    def waiting(self, runs: Any) -> None: ...


def seconds(workers: int, rounds: int, epochs: int) -> float:
    """Wall time of a campaign from nothing, on the digits."""
    with tempfile.TemporaryDirectory() as place:
        experiments = [Experiment(data="digits", loss=loss, epochs=epochs) for loss in ("ce", "cc")]
        runs = plan(experiments, rounds, Path(place))
        started = time.perf_counter()
        with ProcessExecutor(workers, threads=1) as executor:
            failures = run_campaign(runs, executor, observer=Quiet())
        assert not failures
        return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--pairs", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--epochs", type=int, default=20)
    arguments = parser.parse_args()
    pairs: list[dict[str, float]] = []
    for number in range(arguments.pairs):
        order = (1, 2) if number % 2 == 0 else (2, 1)
        times = {n: seconds(n, arguments.rounds, arguments.epochs) for n in order}
        pairs.append({"one": times[1], "two": times[2]})
        ratios = [pair["one"] / pair["two"] for pair in pairs]
        print(f"one worker {times[1]:.1f} s, two {times[2]:.1f} s: {ratios[-1]:.2f}", flush=True)
        result = {
            "runs": 2 * arguments.rounds,
            "epochs": arguments.epochs,
            "seconds": pairs,
            "ratios": ratios,
            "median_ratio": statistics.median(ratios),
            "provenance": provenance("cpu"),
        }
        arguments.out.write_text(json.dumps(result, indent=2) + "\n")  # a pair takes minutes
    print(f"median ratio {result['median_ratio']:.2f}")


if __name__ == "__main__":
    main()
