"""Every loss trains on every kind of backbone, and for few and many classes."""

import torch

from ccloss import Classifier, ClassifierHead
from ccloss.losses import LOSSES, make_loss
from ccloss.models.backbones import Backbone, build_backbone, feature_width

SIZES = {"convnet": 8, "vgg16": 24, "resnet18": 16, "timm:resnet10t": 48}
MANY = 196
HIDDEN = 16
NEEDS_A_CHANNEL_PER_CLASS = "mc"
"""A loss that needs as many channels as there are classes, more than the small network has."""


def takes_a_step(name: str, backbone: Backbone, size: int, classes: int) -> bool:
    """Whether one step changes every parameter of the head and of the loss."""
    torch.manual_seed(0)
    loss = make_loss(name, num_classes=classes, features=HIDDEN)
    head = ClassifierHead(
        feature_width(backbone, 3, size),
        HIDDEN,
        classes,
        attention="attention" in loss.needs,
        unit_classifier=loss.unit_classifier,
        classifier_bias=loss.classifier_bias,
    )
    model = Classifier(backbone, head, 3).train()
    parameters = [*model.head.parameters(), *loss.parameters()]
    before = [parameter.detach().clone() for parameter in parameters]
    optimizer = torch.optim.SGD([*model.parameters(), *loss.parameters()], lr=1e-3)
    total = loss(model(torch.rand(4, 3, size, size)), torch.arange(4) * classes // 4)
    total.backward()
    optimizer.step()
    trained = [*model.parameters(), *loss.parameters()]
    assert all(parameter.isfinite().all() for parameter in trained)
    changed = [not torch.equal(old, new) for old, new in zip(before, parameters, strict=True)]
    return bool(total.isfinite()) and all(changed)


def test_every_loss_takes_a_step_on_every_backbone() -> None:
    for name, size in SIZES.items():
        torch.manual_seed(0)
        backbone = build_backbone(name, 3, size, pretrained=False)
        for loss in LOSSES:
            assert takes_a_step(loss, backbone, size, 10), (loss, name)


def test_every_loss_takes_a_step_with_many_classes() -> None:
    for loss in LOSSES:
        name = "resnet18" if loss == NEEDS_A_CHANNEL_PER_CLASS else "convnet"
        torch.manual_seed(0)
        backbone = build_backbone(name, 3, SIZES[name], pretrained=False)
        assert takes_a_step(loss, backbone, SIZES[name], MANY), (loss, name)
