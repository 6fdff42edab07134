"""Every loss trains on every kind of backbone, for few and many classes."""

import itertools

import torch

from ccloss import Classifier, ClassifierHead
from ccloss.losses import LOSSES, make_loss
from ccloss.models.backbones import Backbone, build_backbone, feature_width

BACKBONES = {"convnet": 8, "vgg16": 24, "resnet18": 16, "timm:resnet10t": 48}
CLASSES = (10, 196)
HIDDEN = 16
TOO_FEW_CHANNELS = {("mc", "convnet", 196)}


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
    covered = []
    for name, size in BACKBONES.items():
        torch.manual_seed(0)
        backbone = build_backbone(name, 3, size, pretrained=False)
        for loss, classes in itertools.product(LOSSES, CLASSES):
            if (loss, name, classes) in TOO_FEW_CHANNELS:
                continue
            assert takes_a_step(loss, backbone, size, classes), (loss, name, classes)
            covered.append((loss, name, classes))
    assert len(covered) == len(LOSSES) * len(BACKBONES) * len(CLASSES) - len(TOO_FEW_CHANNELS)
