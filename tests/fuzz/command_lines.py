"""Random command lines. Valid ones train for one or two steps on the digits."""

import itertools
import random
from pathlib import Path

from fuzz_report import Report

from ccloss.training.records import RunFolder

VALUES = [
    *("0", "1", "2", "-1", "3.5", "1e-3", "1e400", "nan", "inf", "9" * 30, "1,2", "1,x", ","),
    *("", " ", "x", "true", "[1]", "{}", "none", "ü", "猫", "a\nb", "[bold]", "--", "-", "../x"),
    *("ce", "cc+cam", "fp32", "max", "a" * 300, "\udce9"),
]
OPTIONS = [
    *("data", "loss", "backbone", "attention", "hidden-features", "reduction", "image-size"),
    *("resize", "channels", "padding", "flip", "epochs", "max-steps", "batch-size"),
    *("sampler", "samples-per-class", "learning-rate", "final-learning-rate", "momentum"),
    *("weight-decay", "precision", "seed", "train-limit", "test-limit", "validation"),
    *("evaluate-every", "head-norm", "activation", "final-pool", "clip-grad-norm"),
    *("loss.weight", "loss.eps", "loss.gamma", "loss.margin", "loss.class-weights"),
    *("loss.label-smoothing", "loss.reduction", "workers", "resume", "no-attention"),
    *("overwrite", "jobs", "rounds", "losses", "dry-run", "threads-per-run"),
    *("rounds-per-device", "cpus-per-run", "figures", "only", "bogus"),
]
VALID = {
    "hidden-features": ["1", "32"],
    "reduction": ["1", "4"],
    "image-size": ["8", "12"],
    "resize": ["0", "16"],
    "channels": ["1", "3"],
    "padding": ["0", "2"],
    "flip": ["0", "0.5", "1"],
    "epochs": ["1", "2"],
    "max-steps": ["1", "3"],
    "batch-size": ["2", "7", "40"],
    "learning-rate": ["0.1", "1e-3"],
    "momentum": ["0", "0.5"],
    "weight-decay": ["0", "1e-4"],
    "seed": ["0", "2147483647"],
    "train-limit": ["20", "40"],
    "test-limit": ["10", "20"],
    "validation": ["0", "0.2"],
    "evaluate-every": ["1", "3"],
    "head-norm": ["batch", "none"],
    "activation": ["relu", "identity"],
    "clip-grad-norm": ["1"],
    "loss.weight": ["0", "0.5"],
    "loss.label-smoothing": ["0", "0.1"],
    "loss.class-weights": ["1,1,1,1,1,1,1,1,1,2"],
    "precision": ["fp32", "bf16"],
    "workers": ["0"],
    "no-attention": ["true"],
}
"""Options with values that are valid by themselves, though not in every combination."""

COMMANDS = ["train"] * 6 + ["compare"] * 2 + ["evaluate", "report", "data", "losses"]
SMALL = ["--train-limit", "40", "--test-limit", "20", "--max-steps", "1", "--hidden-features", "8"]
LOSSES = ["ce", "cc", "focal", "a-softmax", "mc", "ical", "fical", "center", "cosface", "arcface"]


def run(report: Report, chance: random.Random, number: int, folder: Path) -> None:
    """Executes random command lines."""
    for index in range(number):
        out = folder / f"run-{index}"
        arguments = _arguments(chance, out)
        name = f"ccloss {' '.join(map(repr, arguments))}"
        with report.case("command lines", name):
            output = report.command(name, arguments)
            if arguments[:1] != ["train"] or not out.exists():
                continue
            if output.code == 0:
                _check_record(report, name, arguments, out)
            elif output.code == 2 and "--overwrite" not in arguments:
                left = [path.name for path in out.iterdir() if path.name != ".lock"]
                if left:
                    report.fault("silent difference", name, f"rejected, but left {left}")


def _check_record(report: Report, name: str, arguments: list[str], out: Path) -> None:
    """The record must hold every option that is given once, with its value."""
    experiment = RunFolder(out).read_record().experiment
    given = [argument for argument in arguments if argument.startswith("--")]
    for option, value in itertools.pairwise(arguments):
        field = option.removeprefix("--").replace("-", "_")
        known = option.startswith("--") and field in experiment
        if known and sum(each.partition("=")[0] == option for each in given) == 1:
            recorded = experiment[field]
            if value != str(recorded) and float(value) != float(recorded or 0):
                report.fault("silent difference", name, f"{option} is recorded as {recorded!r}")


def _arguments(chance: random.Random, out: Path) -> list[str]:
    command = chance.choice(COMMANDS)
    if command == "train":
        arguments = ["train", "--data", "digits", "--loss", chance.choice(LOSSES), *SMALL]
    elif command == "compare":
        arguments = ["compare", "--data", "digits", "--rounds", "1", "--dry-run", *SMALL]
    elif command == "data":
        arguments = ["data", chance.choice(["list", "verify", "x"])]
    else:
        arguments = [command]
    if command in ("train", "compare", "report"):
        arguments += ["--out", str(out)]
    if command == "train":
        for option in chance.sample(list(VALID), chance.randint(0, 3)):
            arguments += [f"--{option}", chance.choice(VALID[option])]
    for _ in range(chance.choice([0, 1, 1, 2])):
        arguments += _mutation(chance)
    if chance.random() < 0.1:
        del arguments[chance.randrange(len(arguments))]
    return arguments


def _mutation(chance: random.Random) -> list[str]:
    option, value = chance.choice(OPTIONS), chance.choice(VALUES)
    if option == "epochs":  # some epochs would take hours; --max-steps limits them
        value = chance.choice(["0", "2", "x", "-1"])
    if option == "max-steps":
        value = chance.choice(["0", "2", "x", "-1", "nan"])
    if option in ("data", "train-limit", "test-limit", "workers"):
        value = chance.choice([value, "0", "-1", "x", "99"])
    if option == "dry-run":
        return ["--dry-run"]
    form = chance.random()
    if form < 0.7:
        return [f"--{option}", value]
    return [f"--{option}={value}"] if form < 0.9 else [chance.choice([f"--{option}", value])]
