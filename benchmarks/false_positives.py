"""Simulates the false-positive rate and the power of the comparisons of a report.

    python -m benchmarks.false_positives --out benchmarks/results/false_positives.json

Every simulated row has the same true accuracy. Its rounds are counts of test images and go through
:func:`ccloss.bench.comparisons.compare` like measured ones. A false positive is a family with at
least one significant comparison. There are three groups of families: those with the spreads of the
committed records; held-out ones, which were fixed before their first simulation and played no part
in the choice of the test; and skewed ones, which violate the assumption of the t-test and show how
much that matters. The skewed ones are also tested by flipping the signs of the differences, a
permutation test. The power is that of the paper's gains of CC-Loss over CE + CAM with the median
spread of the committed rounds, before adjustment.
"""

import argparse
import json
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean, median
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

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
        noise: distribution of the rounds; ``tailed`` is a t distribution with 3 degrees of freedom,
            ``skewed`` an exponential distribution of the first row, with bad rounds far below.
        seed_spread: standard deviation of an effect of the seed that all rows share.
    """

    spreads: Mapping[str, float]
    accuracy: float
    images: int
    noise: Literal["normal", "tailed", "skewed"] = "normal"
    seed_spread: float = 0.0

    def draw(self, rounds: int, rng: np.random.Generator) -> NDArray[np.float64]:
        """(rows, rounds) accuracies, in %."""
        shape = len(self.spreads), rounds
        noise = rng.normal(size=shape)
        if self.noise == "tailed":
            noise = rng.standard_t(3, size=shape) / 3**0.5
        elif self.noise == "skewed":
            noise[0] = 1 - rng.exponential(size=rounds)
        spreads = np.array(list(self.spreads.values()))[:, None]
        drawn = self.accuracy + noise * spreads + rng.normal(size=rounds) * self.seed_spread
        hits = np.clip(np.rint(drawn * self.images / 100), 0, self.images)
        return np.asarray(hits * 100 / self.images)


def _spreads(*values: float) -> dict[str, float]:
    return dict(zip(("ce", "cc", *map(str, range(len(values)))), values, strict=False))


HELD_OUT = {
    "two rows at 99.9 % of 1,000 images": Family(_spreads(0.15, 0.15), 99.9, 1_000),
    "three rows of equal spread": Family(_spreads(1, 1, 1), 90.0, 10_000),
    "six rows, two of which spread twice as much": Family(_spreads(1, 2, 1, 2, 1, 1), 80.0, 10_000),
    "eight rows, one of which spreads ten times as much": Family(
        _spreads(2, *[0.2] * 7), 95.0, 10_000
    ),
    "nine rows with spreads of 0.1 to 3": Family(
        _spreads(0.1, 0.2, 0.3, 0.5, 0.7, 1, 1.5, 2, 3), 75.0, 8_041
    ),
    "three rows with rounds of heavy tails": Family(
        _spreads(0.5, 0.3, 0.2), 97.0, 10_000, noise="tailed"
    ),
    "five rows with an effect of the seed": Family(
        _spreads(0.3, 0.5, 0.3, 0.2, 0.4), 93.0, 10_000, seed_spread=0.5
    ),
}

SKEWED = {
    "two rows, the first with bad rounds far below": Family(
        _spreads(1, 0.1), 95.0, 10_000, noise="skewed"
    ),
    "six rows, the first with bad rounds far below": Family(
        _spreads(1, *[0.3] * 5), 95.0, 10_000, noise="skewed"
    ),
}


def simulate(family: Family, rounds: int, repetitions: int, seed: int) -> dict[str, float]:
    """Rate of families with a significant comparison where all rows have the same true accuracy."""
    rng = np.random.default_rng([seed, rounds])
    names = list(family.spreads)
    pairs = method_pairs(names)
    first, second = ([names.index(pair[side]) for pair in pairs] for side in (0, 1))
    significant = 0
    for _ in range(repetitions):
        drawn = family.draw(rounds, rng)
        if not _may_be_significant(drawn[first] - drawn[second]):
            continue
        rows = {
            name: dict(enumerate(values.tolist()))
            for name, values in zip(names, drawn, strict=True)
        }
        found = compare(rows, pairs, resolution=100 / family.images)
        significant += any(each.sign for each in found)
    rate = significant / repetitions
    return {"family": rate, "standard_error": (rate * (1 - rate) / repetitions) ** 0.5}


def simulate_sign_flips(family: Family, rounds: int, repetitions: int, seed: int) -> float:
    """The same rate with the sign-flip test, whose p-value counts the 2^rounds changes of sign."""
    rng = np.random.default_rng([seed, rounds])
    names = list(family.spreads)
    first, second = ([names.index(pair[side]) for pair in method_pairs(names)] for side in (0, 1))
    signs = 1 - 2 * (np.arange(2**rounds)[:, None] >> np.arange(rounds) & 1)
    significant = 0
    for _ in range(repetitions):
        drawn = family.draw(rounds, rng)
        sums = np.abs((drawn[first] - drawn[second]) @ signs.T)  # the first sign vector is all 1
        p_values = (sums >= sums[:, :1] - 1e-9).mean(axis=1)
        significant += bool(p_values.min() * len(p_values) < LEVEL)
    return significant / repetitions


def _may_be_significant(differences: NDArray[np.float64]) -> bool:
    """Whether a comparison can be significant, to save the time of the others.

    The error of a test is at least that of the differences, and the normal distribution has the
    lightest tails of all t distributions, so that the p-value is at least the one computed here.
    """
    spread = differences.std(axis=1, ddof=1)
    tested = spread > 1e-6
    if not tested.any():
        return False
    error = spread[tested] / differences.shape[1] ** 0.5
    t = np.abs(differences.mean(axis=1)[tested]).astype(float) / error
    return bool(2 * ndtr(-t.max()) * tested.sum() < LEVEL)


def measured_families() -> dict[str, Family]:
    """The settings of the committed campaigns that have several methods and rounds."""
    found = {}
    for campaign in ("digits-paper", "losses", "mnist-fp32", "mnist-bf16", "small-sample"):
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
    parser.add_argument("--repetitions", type=int, default=2000, help="of families of many rows")
    options = parser.parse_args()
    groups = {"records": measured_families(), "held out": HELD_OUT, "skewed": SKEWED}
    # Families of few rows come closest to the level and are simulated more often.
    repetitions = {
        name: options.repetitions * (5 if len(family.spreads) < 4 else 1)
        for families in groups.values()
        for name, family in families.items()
    }
    with ProcessPoolExecutor() as pool:
        jobs = {
            (group, name, rounds): pool.submit(simulate, family, rounds, repetitions[name], seed)
            for group, families in groups.items()
            for seed, (name, family) in enumerate(families.items())
            for rounds in ROUNDS
        }
        sign_flips = {
            name: {
                rounds: pool.submit(simulate_sign_flips, family, rounds, options.repetitions, seed)
                for rounds in ROUNDS
            }
            for seed, (name, family) in enumerate(SKEWED.items())
        }
        rates = {
            group: {
                name: {
                    **asdict(family),
                    "repetitions": repetitions[name],
                    "rates": {str(rounds): jobs[group, name, rounds].result() for rounds in ROUNDS},
                }
                for name, family in families.items()
            }
            for group, families in groups.items()
        }
    spread = 2**0.5 * median(
        value for family in groups["records"].values() for value in family.spreads.values()
    )
    powers = {
        str(gain): {
            str(rounds): statistics.power(gain, spread, rounds, LEVEL) for rounds in (3, 5, 10, 30)
        }
        for gain in GAINS
    }
    content = {
        "command": f"python -m benchmarks.false_positives --repetitions {options.repetitions} "
        "--out benchmarks/results/false_positives.json",
        "level": LEVEL,
        "largest_family_rate": {
            group: max(r["family"] for each in found.values() for r in each["rates"].values())
            for group, found in rates.items()
        },
        "false_positives": rates,
        "sign_flips_of_skewed": {
            name: {str(rounds): job.result() for rounds, job in own.items()}
            for name, own in sign_flips.items()
        },
        "spread_of_a_difference": spread,
        "power": powers,
    }
    options.out.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
