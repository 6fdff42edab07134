"""Where the paper is silent, and what this library does there."""

from collections.abc import Sequence

from ccloss.bench.experiment import NETWORKS
from ccloss.bench.paper.tables import Column

_EVERYWHERE = (
    "hidden layer of 512 channels",
    "attention bottleneck with reduction 16",
    "batch normalisation after the hidden layer, before attention",
    "epsilon 1e-6",
    "weight decay on every parameter",
    "learning rate updated at every step",
    "accuracy at the last epoch",
    "fp32",
)

_OF_DATA = {
    "mnist": (
        "28x28 images resized to 24x24",
        "1-channel first layer",
        "pools round up at 24 px",
    ),
    "cars196": ("images resized to a short side of 256 before the crop",),
}

_OF_BACKBONE = {
    "resnet18": ("ResNet18 with a 3x3 stride-1 stem and no max-pool up to 64 px",),
    "vgg16": (
        "VGG16's convolutions with batch normalisation, without its fully connected layers",
        f"gradient norm clipped at {NETWORKS['vgg16']['clip_grad_norm']} with VGG16",
    ),
}


def gaps(columns: Sequence[Column]) -> list[str]:
    """Choices that the paper leaves open, for the columns of a table."""
    found = list(_EVERYWHERE)
    for data in dict.fromkeys(column.data for column in columns):
        found += _OF_DATA.get(data, ())
    for backbone in dict.fromkeys(column.backbone for column in columns):
        found += _OF_BACKBONE.get(backbone, ())
    return found
