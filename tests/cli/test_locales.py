"""Names in any script are the same in output, tables, figures and page under every locale."""

import html
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from ccloss.data.names import printable
from runs import content

CLASSES = ("[v2]", "two\nlines", "<b>&", "猫", "حصان", os.fsdecode(b"caf\xe9"))

COMMANDS = """
import sys
from ccloss.cli import main
train = ["train", "--data", "images", "--backbone", "convnet", "--hidden-features", "8"]
train += ["--batch-size", "4", "--max-steps", "1", "--image-size", "8", "--padding", "0"]
codes = [main(["data", "verify", "images"])]
if sys.argv[2:]:
    codes += [main([*train, "--out", sys.argv[2]])]
codes += [main(["report", "runs", "--figures", "--out", sys.argv[1]])]
assert not any(codes), codes
"""


def write_images(root: Path) -> None:
    pixels = np.random.default_rng(0)
    for split, count in (("train", 2), ("test", 1)):
        for name in CLASSES:
            folder = root / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                image = pixels.integers(0, 256, (8, 8, 3), dtype=np.uint8)
                Image.fromarray(image).save(folder / f"{number}.png")


def execute(folder: Path, locale: str, *arguments: str) -> str:
    """What the commands print, and no message about a glyph."""
    environment = {**os.environ, "LC_ALL": locale, "COLUMNS": "200", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", COMMANDS, *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, timeout=240)
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    assert b"Glyph" not in done.stderr
    return done.stdout.decode()


def test_names_are_the_same_under_every_locale(tmp_path: Path) -> None:
    write_images(tmp_path / "images")
    unfinished = tmp_path / "runs" / os.fsdecode(b"\xe9\n")
    unfinished.mkdir(parents=True)
    (unfinished / "experiment.json").write_text("{}")
    run = os.fsdecode(b"runs/r\xe9n")
    first = execute(tmp_path, "C.UTF-8", "one", run)
    other = execute(tmp_path, "en_US.UTF-8", "two")
    assert content(tmp_path / "one") == content(tmp_path / "two")
    page = (tmp_path / "one" / "index.html").read_text(encoding="utf-8")
    for name in map(printable, CLASSES):
        assert name in first
        assert name in other
        assert html.escape(name) in page
    assert r"runs/\xe9\n" in page
    assert r"left out (unfinished): runs/\xe9\n: no record was written" in other
