"""Committed parameter counts and operations of the backbones."""

import json
from pathlib import Path

import pytest
import torchvision

from ccloss import build_model

ROOT = Path(__file__).parents[2]
ROWS = json.loads((ROOT / "benchmarks" / "results" / "backbones.json").read_text())


@pytest.mark.parametrize("row", [row for row in ROWS if row["pixels"] <= 32], ids=str)
def test_parameters_are_those_of_the_network(row: dict[str, object]) -> None:
    model = build_model(row["backbone"], row["classes"], row["channels"], row["pixels"])
    counts = [sum(p.numel() for p in module.parameters()) for module in (model.backbone, model)]
    assert counts == [row["ccloss"]["backbone_parameters"], row["ccloss"]["parameters"]]


@pytest.mark.parametrize(
    ("backbone", "weights"),
    [
        ("vgg16", torchvision.models.VGG16_BN_Weights.IMAGENET1K_V1),
        ("resnet18", torchvision.models.ResNet18_Weights.IMAGENET1K_V1),
    ],
)
def test_torchvision_counts_are_the_published_ones(
    backbone: str, weights: torchvision.models.WeightsEnum
) -> None:
    """torchvision publishes counts for 1,000 classes at 224 px."""
    (row,) = [row for row in ROWS if row["backbone"] == backbone and row["pixels"] == 224]
    width = {"vgg16": 4096, "resnet18": 512}[backbone]
    fewer_classes = 1000 - row["classes"]
    expected = weights.meta["num_params"] - fewer_classes * (width + 1)
    assert row["torchvision"]["parameters"] == expected
    assert row["torchvision"]["macs"] / 1e9 == pytest.approx(weights.meta["_ops"], rel=1e-3)
    assert row["ccloss"]["macs"] / 1e9 == pytest.approx(weights.meta["_ops"], rel=1e-2)
