"""Damaged run folders: resume ends in the same weights, or there is an error of one line."""

import json
import random
import shutil
from pathlib import Path
from typing import Any

from fuzz_report import Report

from ccloss.training.records import RunFolder

TRAIN = ["train", "--data", "digits", "--loss", "cc", "--epochs", "2", "--train-limit", "40"]
TRAIN += ["--test-limit", "20", "--hidden-features", "8", "--batch-size", "16"]
JSON_VALUES = [None, {}, [], "x", -1, 1e308, True, [[[[]]]], "\u2028[v2]"]


def run(report: Report, chance: random.Random, number: int, folder: Path) -> None:
    """Damages copies of a finished and an unfinished run and uses them."""
    finished, unfinished = folder / "finished", folder / "unfinished"
    report.command("train", [*TRAIN, "--out", str(finished)])
    shutil.copytree(finished, unfinished)
    for name in ("record.json", "model.safetensors", "test_sample.safetensors"):
        (unfinished / name).unlink()
    expected = RunFolder(finished).model.read_bytes()
    for index in range(number):
        copied = folder / f"case-{index}" / "run"
        shutil.copytree(chance.choice([finished, unfinished]), copied)
        damage = ", ".join(_damage(chance, copied) for _ in range(chance.randint(1, 2)))
        action = chance.choice(["resume", "resume", "evaluate", "report"])
        name = f"{action} after {damage}"
        with report.case("run folders", name):
            if action == "resume":
                output = report.command(name, [*TRAIN, "--out", str(copied), "--resume"])
                model = RunFolder(copied).model
                if output.code == 0 and model.exists() and model.read_bytes() != expected:
                    report.fault("silent difference", name, "other weights")
            elif action == "evaluate":
                report.command(name, ["evaluate", str(copied)])
            else:
                report.command(name, ["report", str(copied.parent)])
        shutil.rmtree(copied.parent)


def _damage(chance: random.Random, run: Path) -> str:
    path = chance.choice(sorted(path for path in run.rglob("*") if path.is_file()))
    name = str(path.relative_to(run))
    kind = chance.choice(["truncate", "empty", "remove", "bytes", "folder", "json", "field"])
    if kind == "truncate":
        content = path.read_bytes()
        path.write_bytes(content[: chance.randrange(len(content) + 1)])
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "bytes":
        path.write_bytes(chance.randbytes(50))
    elif kind in ("remove", "folder"):
        path.unlink()
        if kind == "folder":
            path.mkdir()
    elif kind == "json":
        path.write_text(json.dumps(chance.choice(JSON_VALUES)) + "\n")
    elif path.suffix == ".json":
        fields = _fields(path)
        field = chance.choice([*fields, "unknown_field"])
        fields[field] = chance.choice(JSON_VALUES)
        name += f" {field}={fields[field]!r}"
        path.write_text(json.dumps(fields))
    else:
        path.write_bytes(path.read_bytes() + b"null\n{}\n")
    return f"{kind} of {name}"


def _fields(path: Path) -> dict[str, Any]:
    """The fields of a file; none if it has been damaged before."""
    try:
        content = json.loads(path.read_bytes())
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}
