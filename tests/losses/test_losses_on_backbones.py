"""Every loss takes a step on every kind of backbone, for few classes and many."""

import itertools

import pytest
import torch

from ccloss import Classifier, ClassifierHead, Output
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


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_unit_classifier_has_unit_rows_and_no_bias(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    head, images = ClassifierHead(32, 8, 4, unit_classifier=True), torch.rand(5, 32, 3, 3)
    with torch.autocast("cpu", dtype=dtype, enabled=dtype == torch.bfloat16):
        output: Output = head(images)
    assert output.classifier_weight is not None
    assert output.classifier_weight.dtype == torch.float32
    torch.testing.assert_close(output.classifier_weight.norm(dim=1), torch.ones(4))
    assert "classify.bias" not in head.state_dict()
    expected = output.features.float() @ output.classifier_weight.T
    tolerance = 1e-6 if dtype == torch.float32 else 1e-1
    torch.testing.assert_close(output.logits.float(), expected, rtol=tolerance, atol=tolerance)


def test_a_unit_classifier_changes_nothing_else_of_the_head() -> None:
    drawn = []
    for unit in (False, True):
        torch.manual_seed(0)
        drawn.append(ClassifierHead(32, 8, 4, unit_classifier=unit).state_dict())
    plain, unit_rows = drawn
    assert plain.keys() - unit_rows.keys() == {"classify.bias"}
    assert all(torch.equal(plain[key], unit_rows[key]) for key in unit_rows)
