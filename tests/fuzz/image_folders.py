"""Odd image folders: verify and train report each problem, and no image or class disappears."""

import json
import os
import random
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
from fuzz_report import Report
from PIL import Image

from ccloss.data.names import printable
from ccloss.training.records import RunFolder

CLASSES = ["a", "[v2]", "new\nline", "猫", "حصان", "with space", "b" * 200, ":x:"]
CLASSES.append(os.fsdecode(b"caf\xe9"))  # not UTF-8
MODES = ["L", "RGB", "RGBA", "P", "1", "LA", "CMYK", "I;16", "F", "I"]
FORMATS = {"png": "PNG", "jpg": "JPEG", "gif": "GIF", "bmp": "BMP", "webp": "WEBP", "tif": "TIFF"}
TRAIN = ["--backbone", "convnet", "--hidden-features", "8", "--batch-size", "4", "--max-steps", "1"]
TRAIN += ["--image-size", "8", "--workers", "0"]

Counts = dict[str, Counter[str]]
"""Split -> class -> number of images."""


def run(report: Report, chance: random.Random, number: int, folder: Path) -> None:
    """Creates image folders, then verifies them or trains on them."""
    for index in range(number):
        images = folder / f"images-{index}"
        names = _create(chance, images)
        name = f"image folder {index} with {names}"
        with report.case("image folders", name):
            if chance.random() < 0.5:
                _verify(report, name, images)
            else:
                _train(report, name, images, folder / f"run-{index}")
        shutil.rmtree(images)


def _verify(report: Report, name: str, images: Path) -> None:
    output = report.command(name, ["data", "verify", f"folder:{images}", "--json"])
    if output.code == 2:
        return
    found = json.loads(output.out)
    if (output.code == 1) != bool(found["problems"]):
        report.fault("silent difference", name, f"exit code {output.code}: {found['problems']}")
    counts = {split: +Counter(found[split]) for split in ("train", "test")}
    _compare(report, name, _files(images), counts)
    text = report.command(name, ["data", "verify", f"folder:{images}"]).out
    if not all(each in text for each in found["classes"]):
        report.fault("silent difference", name, f"a class is not in {text}")


def _train(report: Report, name: str, images: Path, out: Path) -> None:
    output = report.command(
        name, ["train", "--data", f"folder:{images}", *TRAIN, "--out", str(out)]
    )
    if output.code == 0:
        record = RunFolder(out).read_record()
        files = _files(images)
        classes = sorted(files["train"] | files["test"])
        if sorted(record.classes) != classes:
            report.fault("silent difference", name, f"classes {record.classes} of {classes}")
        number = record.evaluation["images"]
        if files["test"] and number != files["test"].total():
            report.fault("silent difference", name, f"{number} test images of {files['test']}")
    shutil.rmtree(out, ignore_errors=True)


def _compare(report: Report, name: str, files: Counts, found: Counts) -> None:
    """Compares the number of images of each class; without a test split some are held out.

    A single test class without training images may be a folder around others. Training rejects it.
    """
    if not files["test"]:
        found = {"train": found["train"] + found["test"], "test": Counter()}
    if found != files and set(files["test"]) <= set(files["train"]):
        report.fault("silent difference", name, f"{found} of {files}")


def _files(images: Path) -> Counts:
    """Image files by split and name of the class."""
    found: Counts = {"train": Counter(), "test": Counter()}
    for path in images.rglob("*"):
        hidden = path.name.startswith(".")
        if path.suffix.lstrip(".") in FORMATS and not hidden:
            split, label = path.relative_to(images).parts[:2]
            found[split][printable(label)] += 1
    return found


def _create(chance: random.Random, images: Path) -> list[str]:
    names = chance.sample(CLASSES, chance.randint(1, 3))
    for name in names:
        for split in ("train", "test") if chance.random() < 0.8 else ("train",):
            folder = images / split / name
            folder.mkdir(parents=True)
            for number in range(chance.randint(0, 6)):
                _write_image(chance, folder, number)
            if chance.random() < 0.3:
                _write_oddity(chance, folder)
    return names


def _write_image(chance: random.Random, folder: Path, number: int) -> None:
    width, height = chance.choice([(8, 8), (8, 8), (1, 1), (1, 40), (9, 7), (30, 20)])
    pixels = np.frombuffer(chance.randbytes(width * height * 3), np.uint8).reshape(height, width, 3)
    mode = chance.choice(["RGB"] * 5 + MODES)
    suffix = chance.choice(["png"] * 4 + list(FORMATS))
    path = folder / f"{number}.{suffix}"
    image = Image.fromarray(pixels)
    try:
        image = image.convert("I").convert(mode) if mode == "I;16" else image.convert(mode)
        image.save(path, FORMATS[suffix])
    except (OSError, ValueError, KeyError):  # the format has no such mode
        Image.fromarray(pixels).save(path.with_suffix(".png"))


def _write_oddity(chance: random.Random, folder: Path) -> None:
    kind = chance.choice(["empty", "text", "cut", "hidden", "nested", "link", "loop", "unknown"])
    if kind == "empty":
        (folder / "empty.png").write_bytes(b"")
    elif kind == "text":
        (folder / "text.jpg").write_text("not an image")
    elif kind == "cut":
        whole = folder / "cut.png"
        Image.new("RGB", (9, 9)).save(whole)
        whole.write_bytes(whole.read_bytes()[:40])
    elif kind == "hidden":
        (folder / ".hidden.png").write_bytes(b"")
    elif kind == "nested":
        (folder / "nested").mkdir()
        Image.new("L", (8, 8)).save(folder / "nested" / "0.png")
    elif kind == "link":
        (folder / "link.png").symlink_to(folder / "missing.png")
    elif kind == "loop":
        (folder / "loop").symlink_to(folder)
    else:
        (folder / "notes.txt").write_text("notes")
