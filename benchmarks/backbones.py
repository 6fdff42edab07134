"""Parameters and multiply-accumulates of each backbone: ``python -m benchmarks.backbones``.

Stores the counts beside those of torchvision's models and writes the table of docs/networks.md.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
import torchvision
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.pages import with_table
from ccloss.bench.report.text import markdown_table
from ccloss.models import build_model

RESULT = Path(__file__).parent / "results" / "backbones.json"
PAGE = Path(__file__).parents[1] / "docs" / "networks.md"

ROWS = (
    # backbone, pixels, channels, classes
    ("vgg16", 24, 1, 10),
    ("vgg16", 32, 3, 100),
    ("vgg16", 224, 3, 196),
    ("resnet18", 24, 1, 10),
    ("resnet18", 32, 3, 100),
    ("resnet18", 224, 3, 196),
    ("convnet", 8, 1, 10),
)
"""The networks of the paper's data sets, and that of the digits."""

THEIRS: Mapping[str, tuple[Callable[..., nn.Module], str]] = {
    "vgg16": (torchvision.models.vgg16_bn, "classifier"),
    "resnet18": (torchvision.models.resnet18, "fc"),
}
"""torchvision's model and the name of its classifier."""


def macs(model: nn.Module, images: Tensor) -> int:
    """Multiply-accumulates of convolutions and linear layers for one image."""
    counter = FlopCounterMode(display=False)
    with counter, torch.no_grad():
        model.eval()(images)
    return int(counter.get_total_flops()) // 2


def parameters(module: nn.Module) -> int:
    """Number of parameters."""
    return sum(parameter.numel() for parameter in module.parameters())


def count(backbone: str, pixels: int, channels: int, classes: int) -> dict[str, Any]:
    """Counts of our classifier and of torchvision's model for the same images and classes."""
    model = build_model(backbone, classes, channels, pixels)
    ours = {
        "backbone_parameters": parameters(model.backbone),
        "parameters": parameters(model),
        "macs": macs(model, torch.zeros(1, channels, pixels, pixels)),
    }
    theirs = None
    if backbone in THEIRS:
        build, classifier = THEIRS[backbone]
        side = max(pixels, 32)  # VGG16's five pools need 32 px
        with torch.device("meta"):
            other = build(num_classes=classes)
            removed = parameters(other.get_submodule(classifier))
            theirs = {
                "backbone_parameters": parameters(other) - removed,
                "parameters": parameters(other),
                "macs": macs(other, torch.zeros(1, 3, side, side)),
            }
    return {
        "backbone": backbone,
        "pixels": pixels,
        "channels": channels,
        "classes": classes,
        "ccloss": ours,
        "torchvision": theirs,
    }


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown table of the counts."""
    header = ["backbone", "px", "channels", "classes"]
    for source in ("ccloss", "torchvision"):
        header += [f"{source}: backbone", "with classifier", "MACs (10^6)"]
    lines = [header]
    for row in rows:
        line = [row["backbone"], *(str(row[key]) for key in ("pixels", "channels", "classes"))]
        for source in ("ccloss", "torchvision"):
            counts = row[source]
            line += (
                [
                    f"{counts['backbone_parameters']:,}",
                    f"{counts['parameters']:,}",
                    f"{counts['macs'] / 1e6:,.1f}",
                ]
                if counts
                else ["–"] * 3
            )
        lines.append(line)
    return markdown_table(lines)


def write_page(rows: list[dict[str, Any]]) -> None:
    """Replaces the table of the page."""
    PAGE.write_text(with_table(PAGE.read_text(), "backbones", table(rows)))


def main() -> None:
    """Counts, stores and writes the table."""
    rows = [count(*row) for row in ROWS]
    RESULT.write_text(json.dumps(rows, indent=1) + "\n")
    write_page(rows)


if __name__ == "__main__":
    main()
