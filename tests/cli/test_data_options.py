"""Options of ``train`` and ``evaluate`` that concern the images, on a small folder."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ccloss.cli.app import main
from ccloss.training.records import RunFolder


def write_images(root: Path, split: str, name: str, count: int) -> None:
    folder = root / split / name
    folder.mkdir(parents=True)
    gen = np.random.default_rng([len(split), ord(name)])
    for number in range(count):
        pixels = gen.integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")


@pytest.fixture
def images(tmp_path: Path) -> Path:
    root = tmp_path / "images"
    for name in "ab":
        write_images(root, "train", name, 6)
        write_images(root, "test", name, 1)
    return root


def train(images: Path, *options: str) -> int:
    network = ["--backbone", "convnet", "--hidden-features", "16", "--image-size", "8"]
    steps = ["--batch-size", "4", "--max-steps", "2", "--padding", "0"]
    out = str(images.parent / "run")
    return main(["train", "--data", str(images), "--out", out, *network, *steps, *options])


def test_a_moved_folder_is_evaluated_and_changed_images_are_rejected(
    images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert train(images, "--channels", "1") == 0
    run = images.parent / "run"
    assert RunFolder(run).read_record().experiment["channels"] == 1
    moved = str(images.rename(images.parent / "moved"))
    assert main(["evaluate", str(run)]) == 2
    assert main(["evaluate", str(run), "--data", moved]) == 0
    Image.new("RGB", (8, 8)).save(Path(moved) / "test" / "a" / "0.png")
    capsys.readouterr()
    assert main(["evaluate", str(run), "--data", moved]) == 2
    assert "continue with --allow-changed-data" in capsys.readouterr().err
    assert main(["evaluate", str(run), "--data", moved, "--allow-changed-data"]) == 0
    assert "are not those of the run" in capsys.readouterr().err


def test_a_class_without_test_images_needs_an_option(
    images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_images(images, "train", "c", 6)
    assert train(images) == 2
    assert "continue with --allow-missing-classes" in capsys.readouterr().err
    assert train(images, "--allow-missing-classes") == 0
    assert "no images of 1 class (c)" in capsys.readouterr().err
    assert main(["evaluate", str(images.parent / "run")]) == 0
