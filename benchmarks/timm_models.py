"""ccloss's networks under names that timm's training script can ask for.

    python train.py --device-modules benchmarks.timm_models --model ccloss_resnet18 \
        --model-kwargs image_size=32 ...

The script imports what ``--device-modules`` names before it builds its model; that is enough to
register these. Its loss takes logits, so that is all they hand out.
"""

from typing import Any

from timm.models import register_model
from torch import Tensor, nn

from ccloss.models import build_model


class Logits(nn.Module):
    """A classifier of ccloss without attention, down to its logits."""

    def __init__(self, backbone: str, num_classes: int, in_chans: int, image_size: int) -> None:
        super().__init__()
        self.num_classes = num_classes  # the script looks for it
        self.network = build_model(backbone, num_classes, in_chans, image_size, attention=False)

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.network(images).logits
        return logits


def ccloss_resnet18(
    num_classes: int = 100, in_chans: int = 3, image_size: int = 32, **_: Any
) -> Logits:
    """ResNet18; timm's options for its own networks are not looked at."""
    return Logits("resnet18", num_classes, in_chans, image_size)


def ccloss_vgg16(
    num_classes: int = 100, in_chans: int = 3, image_size: int = 32, **_: Any
) -> Logits:
    """VGG16 with batch norm."""
    return Logits("vgg16", num_classes, in_chans, image_size)


for _builder in (ccloss_resnet18, ccloss_vgg16):
    register_model(_builder)
