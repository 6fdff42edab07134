"""Odd image folders: verify and train report each problem, and no image or class disappears."""

import os
import random
import shutil
from pathlib import Path

import numpy as np
from fuzz_report import Report
from PIL import Image

CLASSES = ["a", "[v2]", "new\nline", "猫", "حصان", "with space", "b" * 200, ":x:"]
CLASSES.append(os.fsdecode(b"caf\xe9"))  # not UTF-8
MODES = ["L", "RGB", "RGBA", "P", "1", "LA", "CMYK", "I;16", "F", "I"]
FORMATS = {"png": "PNG", "jpg": "JPEG", "gif": "GIF", "bmp": "BMP", "webp": "WEBP", "tif": "TIFF"}
TRAIN = ["--backbone", "convnet", "--hidden-features", "8", "--batch-size", "4", "--max-steps", "1"]
TRAIN += ["--image-size", "8", "--workers", "0"]


def run(report: Report, chance: random.Random, number: int, folder: Path) -> None:
    """Creates image folders, then verifies them or trains on them."""
    for index in range(number):
        images = folder / f"images-{index}"
        names = _create(chance, images)
        name = f"image folder {index} with {names}"
        with report.case("image folders", name):
            if chance.random() < 0.5:
                output = report.command(name, ["data", "verify", f"folder:{images}"])
                if output.code == 1 and "problem" not in output.out:
                    report.fault("silent difference", name, "exit code 1 without a problem")
            else:
                out = folder / f"run-{index}"
                report.command(
                    name, ["train", "--data", f"folder:{images}", *TRAIN, "--out", str(out)]
                )
                shutil.rmtree(out, ignore_errors=True)
        shutil.rmtree(images)


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
