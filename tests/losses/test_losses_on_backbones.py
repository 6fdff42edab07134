"""Every loss takes a step on every kind of backbone, for few classes and many."""

import itertools

import pytest
import torch

from ccloss import Classifier, ClassifierHead
from ccloss.losses import LOSSES, make_loss
from ccloss.models.backbones import Backbone, build_backbone, feature_width

BACKBONES = {"convnet": 8, "vgg16": 24, "resnet18": 24, "timm:resnet10t": 48}
CLASSES = (10, 100, 196)
HIDDEN = 16
IMPOSSIBLE = {("mc", "convnet", 196)}  # 128 channels


def takes_a_step(name: str, backbone: Backbone, size: int, classes: int) -> bool:
    """Whether the classifier, and each parameter of the loss, has moved."""
    torch.manual_seed(0)
    loss = make_loss(name, num_classes=classes, features=HIDDEN)
    head = ClassifierHead(
        feature_width(backbone, 3, size),
        HIDDEN,
        classes,
        attention="attention" in loss.needs,
        unit_classifier=loss.unit_classifier,
    )
    model = Classifier(backbone, head, 3).train()
    parameters = [*model.head.parameters(), *loss.parameters()]
    before = [parameter.detach().clone() for parameter in parameters]
    optimizer = torch.optim.SGD([*model.parameters(), *loss.parameters()], lr=1e-3)
    total = loss(model(torch.rand(4, 3, size, size)), torch.arange(4) * classes // 4)
    total.backward()
    optimizer.step()
    everything = [*model.parameters(), *loss.parameters()]
    assert all(parameter.isfinite().all() for parameter in everything)
    moved = [not torch.equal(old, new) for old, new in zip(before, parameters, strict=True)]
    return bool(total.isfinite()) and all(moved)


def test_every_loss_takes_a_step_on_every_backbone(capsys: pytest.CaptureFixture[str]) -> None:
    covered = []
    for name, size in BACKBONES.items():
        torch.manual_seed(0)
        backbone = build_backbone(name, 3, size, pretrained=False)
        for loss, classes in itertools.product(LOSSES, CLASSES):
            if (loss, name, classes) in IMPOSSIBLE:
                continue
            assert takes_a_step(loss, backbone, size, classes), (loss, name, classes)
            covered.append((loss, name, classes))
    with capsys.disabled():
        print(f"\n{len(covered)} triples of loss, backbone and number of classes took a step")
    assert len(covered) == len(LOSSES) * len(BACKBONES) * len(CLASSES) - len(IMPOSSIBLE)
