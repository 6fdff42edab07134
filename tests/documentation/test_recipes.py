"""The recipes of CONTRIBUTING.md work exactly as written, in a copy of the package."""

import importlib
import os
import re
import shlex
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from markdown_blocks import FENCE, ROOT
from PIL import Image

from ccloss.training.records import RunFolder
from processes import run_forked

GUIDE = (ROOT / "CONTRIBUTING.md").read_text()
RECIPES = dict(re.findall(r"^### (.*?)\n(.*?)(?=^##|\Z)", GUIDE, re.MULTILINE | re.DOTALL))


def apply(edit: str, root: Path) -> None:
    """Apply a block ``# PATH`` with added lines (+), each group before or after a kept line.

    Added lines above the first kept line go before the first import of the package; the others go
    below the kept line that precedes them.
    """
    header, *lines = edit.splitlines()
    path = root / header.removeprefix("# ")
    content = path.read_text().splitlines()
    position = next(n for n, line in enumerate(content) if line.startswith("from ccloss"))
    for line in lines:
        if line.startswith("+"):
            content.insert(position, line[1:])
            position += 1
        else:
            position = content.index(line[1:]) + 1
    path.write_text("\n".join(content) + "\n")


def write_stripes(folder: Path) -> None:
    """The images that the recipe for a data set assumes."""
    for split, count in (("train", 32), ("test", 8)):
        for axis, label in enumerate(("horizontal", "vertical")):
            (folder / split / label).mkdir(parents=True)
            for number in range(count):
                pixels = np.zeros((8, 8), np.uint8)
                np.moveaxis(pixels, axis, 0)[::2] = 100 + number
                Image.fromarray(pixels).save(folder / split / label / f"{number}.png")


def run_copy(arguments: list[str]) -> int:
    """Run the command of the copy of the package in the working directory."""
    for name in list(sys.modules):
        if name.partition(".")[0] == "ccloss":
            del sys.modules[name]
    sys.path.insert(0, os.path.abspath("src"))
    copy = importlib.import_module("ccloss.cli")
    assert Path(copy.__file__ or "").is_relative_to(Path.cwd())
    return int(copy.main(arguments))


@pytest.mark.parametrize("title", RECIPES)
def test_recipe_trains(title: str, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "src", tmp_path / "src", ignore=shutil.ignore_patterns("*.egg-info"))
    commands = []
    for block in FENCE.finditer(RECIPES[title]):
        language, code = block["language"], block["code"]
        if language == "diff":
            apply(code, tmp_path)
        elif language == "sh":
            commands += code.splitlines()
        else:
            header, _, content = code.partition("\n")
            file = tmp_path / header.removeprefix("# ")
            assert not file.exists()
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(content)
    assert commands
    write_stripes(tmp_path / "images" / "stripes")
    for command in commands:
        program, *arguments = shlex.split(command)
        assert program == "ccloss"
        code, printed = run_forked(tmp_path, run_copy, arguments)
        assert code == 0, printed
        out = Path(arguments[arguments.index("--out") + 1])
        record = RunFolder(tmp_path / out).read_record()
        assert record.steps == 3
        assert title != "A metric" or 0 < record.evaluation["confidence"] <= 100


def test_there_is_a_recipe_for_each_kind() -> None:
    assert set(RECIPES) == {"A loss", "A backbone", "A data set", "A metric"}
