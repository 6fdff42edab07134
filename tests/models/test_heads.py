"""The classifier head against its formula."""

import math

import pytest
import torch
from torch import Tensor, nn

from ccloss import ClassifierHead
from ccloss.errors import InputError


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize("activation", ["relu", "identity"])
@pytest.mark.parametrize("head_norm", ["batch", "none"])
@pytest.mark.parametrize("attention", [True, False])
def test_head_equals_its_formula(attention: bool, head_norm: str, activation: str) -> None:
    head = ClassifierHead(32, 8, 4, attention=attention, head_norm=head_norm, activation=activation)
    features = draw(5, 32, 3, 3)
    vectors = features.sum((2, 3)) / 9
    expected = vectors @ head.hidden.weight.T
    if head_norm == "batch":
        assert head.hidden.bias is None
        deviation = expected - expected.mean(0)
        expected = deviation / (deviation.square().mean(0) + 1e-5).sqrt()
    else:
        expected = expected + head.hidden.bias
    output = head(features)
    if attention:
        squeezed = torch.clamp(vectors @ head.attention.reduce.weight.T, min=0)
        weights = 1 / (1 + torch.exp(-(squeezed @ head.attention.expand.weight.T)))
        torch.testing.assert_close(output.attention, weights)
        expected = expected * weights
    else:
        assert output.attention is None
    if activation == "relu":
        expected = torch.clamp(expected, min=0)
    assert bool((output.features < 0).any()) == (activation == "identity")
    torch.testing.assert_close(output.features, expected, rtol=1e-4, atol=1e-5)
    logits = expected @ head.classify.weight.T + head.classify.bias
    torch.testing.assert_close(output.logits, logits, rtol=1e-4, atol=1e-5)
    assert output.classifier_weight is head.classify.weight
    assert output.feature_map is None


def test_attention_adds_only_its_own_parameters() -> None:
    names = set(ClassifierHead(32, 8, 4).state_dict())
    plain = set(ClassifierHead(32, 8, 4, attention=False).state_dict())
    assert names - plain == {"attention.reduce.weight", "attention.expand.weight"}
    assert plain <= names


def test_batch_normalization_rejects_one_sample_in_training_only() -> None:
    head, one = ClassifierHead(32, 8, 4), draw(1, 32)
    with pytest.raises(InputError, match=r"at least 2 samples in training .* got 1: use a larger"):
        head(one)
    assert head.eval()(one).logits.isfinite().all()
    assert ClassifierHead(32, 8, 4, head_norm="none")(one).logits.isfinite().all()
    synced = nn.SyncBatchNorm.convert_sync_batchnorm(ClassifierHead(32, 8, 4))
    assert isinstance(synced.norm, nn.SyncBatchNorm)  # its batch spans all processes


def test_head_rejects_features_of_another_shape() -> None:
    with pytest.raises(InputError, match=r"features must be a map .* got \(5, 32, 3\)"):
        ClassifierHead(32, 8, 4)(draw(5, 32, 3))


@pytest.mark.parametrize(
    ("argument", "value", "message"),
    [
        ("hidden_features", 0, "hidden_features must be an integer of at least 1, got 0"),
        ("num_classes", 0, "num_classes must be an integer of at least 1, got 0"),
        ("head_norm", "layer", 'head_norm must be "batch" or "none", got \'layer\''),
        ("activation", "elu", 'activation must be "relu" or "identity", got \'elu\''),
    ],
)
def test_head_rejects_arguments_out_of_range(argument: str, value: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        ClassifierHead(
            **{"in_features": 32, "hidden_features": 8, "num_classes": 4, argument: value}
        )


def test_linear_layers_start_as_he_et_al() -> None:
    head = ClassifierHead(256, 512, 100, head_norm="none")
    assert abs(head.hidden.weight.std() / math.sqrt(2 / 256) - 1) < 0.02
    assert not head.hidden.bias.any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_unit_classifier_has_unit_rows_and_no_bias(dtype: torch.dtype) -> None:
    head, images = ClassifierHead(32, 8, 4, unit_classifier=True), draw(5, 32, 3, 3)
    with torch.autocast("cpu", dtype=dtype, enabled=dtype == torch.bfloat16):
        output = head(images)
    assert output.classifier_weight.dtype == torch.float32
    torch.testing.assert_close(output.classifier_weight.norm(dim=1), torch.ones(4))
    assert "classify.bias" not in head.state_dict()
    expected = output.features.float() @ output.classifier_weight.T
    tolerance = 1e-6 if dtype == torch.float32 else 1e-1
    torch.testing.assert_close(output.logits.float(), expected, rtol=tolerance, atol=tolerance)


def test_unit_classifier_changes_no_other_initial_weight() -> None:
    states = []
    for unit in (False, True):
        torch.manual_seed(0)
        states.append(ClassifierHead(32, 8, 4, unit_classifier=unit).state_dict())
    plain, unit_rows = states
    assert plain.keys() - unit_rows.keys() == {"classify.bias"}
    assert all(torch.equal(plain[key], unit_rows[key]) for key in unit_rows)
