"""Simulates the false-positive rate and the power of the comparisons of a report.

    python -m benchmarks.false_positives --out benchmarks/results/false_positives.json

Every simulated row has the same true accuracy. Its rounds spread as the rounds of a committed row
do, are made of whole test images, and go through :func:`ccloss.bench.comparisons.compare` like
measured ones. A false positive is a family with at least one significant comparison. The power is
that of the paper's gains of CC-Loss over CE + CAM with the median spread of the committed rounds.
"""

import argparse
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean, median
from typing import Any

import numpy as np

from ccloss.bench import statistics
from ccloss.bench.comparisons import LEVEL, compare
from ccloss.bench.groups import method_pairs, settings
from ccloss.bench.results import read_runs

RESULTS = Path(__file__).parent / "results"

ROUNDS = range(2, 11)

GAINS = (0.1, 0.2, 0.3, 0.5, 0.66, 0.85, 0.92, 0.95, 2.37, 3.31)
"""Percentage points; from 0.66 on, the gains over CE + CAM that the paper prints."""


@dataclass(frozen=True)
class Family:
    """Rows that are compared with each other.

    Attributes:
        spreads: row -> standard deviation of its rounds, in percentage points.
        accuracy: mean accuracy of all rows, in %.
        images: number of test images.
    """

    spreads: Mapping[str, float]
    accuracy: float
    images: int


def simulate(family: Family, rounds: int, repetitions: int, seed: int) -> dict[str, float]:
    """Rates of significant comparisons where all rows have the same true accuracy.

    Returns:
        ``family``: share of simulated families with a significant comparison after adjustment, and
        its standard error; ``comparison``: share of single comparisons with p < 0.05.
    """
    rng = np.random.default_rng([seed, rounds])
    names, spreads = list(family.spreads), np.array(list(family.spreads.values()))
    pairs = method_pairs(names)
    significant = comparisons = 0
    for _ in range(repetitions):
        drawn = family.accuracy + rng.normal(size=(len(names), rounds)) * spreads[:, None]
        hits = np.clip(np.rint(drawn * family.images / 100), 0, family.images)
        rows = {
            name: dict(enumerate(values.tolist()))
            for name, values in zip(names, hits * 100 / family.images, strict=True)
        }
        found = compare(rows, pairs, resolution=100 / family.images)
        significant += any(each.sign for each in found)
        comparisons += sum(each.p is not None and each.p < LEVEL for each in found)
    rate = significant / repetitions
    return {
        "family": rate,
        "standard_error": (rate * (1 - rate) / repetitions) ** 0.5,
        "comparison": comparisons / (repetitions * len(pairs)),
    }


def measured_families() -> dict[str, Family]:
    """The settings of the committed campaigns that have several methods and rounds."""
    found = {}
    for campaign in ("digits-paper", "losses", "mnist", "mnist-bf16", "small-sample"):
        for setting in settings(read_runs(RESULTS / f"{campaign}.jsonl").records):
            rounds = {
                method: [record.accuracy for record in records.values()]
                for method, records in setting.methods.items()
            }
            spreads = {method: float(np.std(each, ddof=1)) for method, each in rounds.items()}
            if len(rounds) > 1:
                accuracy = fmean(fmean(each) for each in rounds.values())
                images = setting.first.evaluation["images"]
                found[f"{campaign}: {setting.title}"] = Family(spreads, accuracy, images)
    return found


def main() -> None:
    """Writes the rates and the powers."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--repetitions", type=int, default=4000, help="of families of many rows")
    options = parser.parse_args()
    families = measured_families()
    unequal = {"ce": 2.0, "cc": 0.2, **{f"row {number}": 0.2 for number in range(6)}}
    families["artificial: one row spreads ten times as much"] = Family(unequal, 95.0, 10_000)
    families["artificial: spread of half an image"] = Family({"ce": 0.1, "cc": 0.1}, 95.0, 500)
    rates: dict[str, Any] = {}
    for number, (name, family) in enumerate(families.items()):
        # Families of few rows come closest to the level and are simulated more often.
        repetitions = options.repetitions * (5 if len(family.spreads) < 4 else 1)
        rates[name] = {
            **asdict(family),
            "rates": {
                str(rounds): simulate(family, rounds, repetitions, number) for rounds in ROUNDS
            },
        }
        print(name, {r: v["family"] for r, v in rates[name]["rates"].items()}, flush=True)
    spread = 2**0.5 * median(
        value for family in measured_families().values() for value in family.spreads.values()
    )
    powers = {
        str(gain): {
            str(rounds): statistics.power(gain, spread, rounds) for rounds in (3, 5, 10, 30)
        }
        for gain in GAINS
    }
    content = {
        "command": f"python -m benchmarks.false_positives --repetitions {options.repetitions} "
        "--out benchmarks/results/false_positives.json",
        "largest_family_rate": max(
            rate["family"] for each in rates.values() for rate in each["rates"].values()
        ),
        "false_positives": rates,
        "spread_of_a_difference": spread,
        "power": powers,
    }
    options.out.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
