"""Virtual Softmax against a loop over samples and classes."""

import math

import pytest
import torch

import reference
from ccloss import build_model
from ccloss.losses import VirtualSoftmaxLoss
from outputs import HARD, gradients, hard_labels, make_output


def test_loss_equals_its_formula() -> None:
    """Value and gradient of random cases."""
    for case in range(25):
        gen = torch.Generator().manual_seed(case)
        samples, classes, pick = (
            int(torch.randint(1, high, (), generator=gen)) for high in (9, 7, 4)
        )
        weights = torch.rand(classes, generator=gen).tolist() if pick == 1 else None
        smoothing = 0.2 * (pick == 2)
        loss = VirtualSoftmaxLoss(class_weights=weights, label_smoothing=smoothing)
        labels = hard_labels(samples, classes, case)
        output = make_output(case, torch.float64, samples=samples, classes=classes)
        assert output.classifier_weight is not None
        output = output._replace(  # the reference has no gradient at features of 0
            features=torch.randn(samples, 8, generator=gen, dtype=torch.float64).requires_grad_()
        )
        total = loss(output, labels)
        expected = reference.virtual_softmax(
            output.features, output.classifier_weight, labels, weights, smoothing
        )
        torch.testing.assert_close(total, expected, rtol=1e-6, atol=1e-7)
        for grad, like in zip(gradients(total, output), gradients(expected, output), strict=True):
            torch.testing.assert_close(grad, like, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("length", [1.0, 30.0, 1e4])
def test_loss_of_perfectly_aligned_features_is_log_2(length: float) -> None:
    """The virtual class then has the true class's logit; it is never smaller."""
    weight = torch.eye(4, 8)
    output = make_output()._replace(
        features=(length * weight[HARD]).requires_grad_(), classifier_weight=weight
    )
    total = VirtualSoftmaxLoss()(output, HARD)
    expected = math.log(2 + 3 * math.exp(-length))
    torch.testing.assert_close(total, torch.tensor(expected))
    assert torch.autograd.grad(total, output.features)[0].isfinite().all()


def test_features_of_0_give_log_of_one_class_more() -> None:
    output = make_output()
    output = output._replace(features=torch.zeros_like(output.features).requires_grad_())
    total = VirtualSoftmaxLoss()(output, HARD)
    torch.testing.assert_close(total, torch.tensor(math.log(5)))
    assert all(grad.isfinite().all() for grad in gradients(total, output))


def test_one_class_still_has_a_virtual_class() -> None:
    output = make_output(classes=1)
    assert VirtualSoftmaxLoss()(output, torch.zeros(12, dtype=torch.long)) >= math.log(2)


def test_its_network_has_no_bias_and_logits_without_virtual_class() -> None:
    torch.manual_seed(0)
    model = build_model(
        "convnet", 4, 1, 8, classifier_bias=VirtualSoftmaxLoss.classifier_bias, hidden_features=8
    )
    output = model(torch.rand(12, 1, 8, 8))
    assert output.logits.shape == (12, 4)
    assert "head.classify.bias" not in model.state_dict()
    torch.testing.assert_close(output.logits, output.features @ output.classifier_weight.T)
    VirtualSoftmaxLoss()(output, HARD).backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
