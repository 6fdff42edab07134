"""Names in any script are the same in output, tables, figures and page under every locale."""

import html
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ccloss.cli import main
from ccloss.data.names import printable
from small_runs import content

CLASSES = ("[v2]", "two\nlines", "<b>&", "猫", "حصان", os.fsdecode(b"caf\xe9"))

REPORT = """
import sys
from ccloss.cli import main
sys.exit(main(["report", "runs", "--figures", "--out", sys.argv[1]]))
"""

TRAIN = ["train", "--data", "images", "--backbone", "convnet", "--hidden-features", "8"]
TRAIN += ["--batch-size", "4", "--max-steps", "1", "--image-size", "8", "--padding", "0"]


def write_images(root: Path) -> None:
    pixels = np.random.default_rng(0)
    for split, count in (("train", 2), ("test", 1)):
        for name in CLASSES:
            folder = root / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                image = pixels.integers(0, 256, (8, 8, 3), dtype=np.uint8)
                Image.fromarray(image).save(folder / f"{number}.png")


def report(folder: Path, locale: str, out: str) -> str:
    """What the report prints under a locale, without a message about a glyph."""
    environment = {**os.environ, "LC_ALL": locale, "COLUMNS": "200"}
    command = [sys.executable, "-c", REPORT, out]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, timeout=240)
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    assert done.stderr == b""
    return done.stdout.decode().replace(f"{out}/", "")


def test_names_are_the_same_under_every_locale(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    write_images(Path("images"))
    unfinished = Path("runs", os.fsdecode(b"\xe9\n"))
    unfinished.mkdir(parents=True)
    (unfinished / "experiment.json").write_text("{}")
    assert main([*TRAIN, "--out", os.fsdecode(b"runs/r\xe9n")]) == 0
    assert main(["data", "verify", "images"]) == 0
    verified = capsys.readouterr().out
    first, other = (report(tmp_path, f"{name}.UTF-8", name) for name in ("C", "en_US"))
    assert first == other
    assert content(Path("C")) == content(Path("en_US"))
    page = Path("C", "index.html").read_text(encoding="utf-8")
    for name in map(printable, CLASSES):
        assert name in verified
        assert html.escape(name) in page
    assert r"runs/\xe9\n" in page
    assert r"left out (unfinished): runs/\xe9\n: no record was written" in other
