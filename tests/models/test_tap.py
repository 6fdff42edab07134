"""tap: attention vectors of blocks that a model already contains."""

import copy

import pytest
import timm
import torch
import torchvision
from torch import nn

import ccloss
from ccloss import CCLoss, Output, build_model, tap
from ccloss.errors import InputError

IMAGES = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(4) % 2

TIMM = {
    "test_efficientnet": 2,
    "test_byobnet": 4,
    "seresnet18": 8,
    "legacy_seresnet18": 8,
    "mobilenetv3_small_050": 9,
    "lcnet_035": 2,
    "tinynet_e": 10,
    "mnasnet_small": 10,
    "ghostnet_050": 7,
    "regnety_002": 13,
    "ese_vovnet19b_slim_dw": 4,
    "hardcorenas_a": 8,
    "rexnet_100": 13,
    "repghostnet_050": 7,
}
"""Architectures of timm and their number of squeeze-and-excitation blocks."""

TORCHVISION = {"mobilenet_v3_small": 9, "efficientnet_b0": 16, "regnet_y_400mf": 16}


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def check(model: nn.Module, blocks: int) -> None:
    """Output and gradients with taps; every block's vectors are recorded."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):  # some start at 0, and blocks after them too
            nn.init.ones_(module.weight)
    torch.manual_seed(1)
    expected = copy.deepcopy(model)(IMAGES)
    taps = tap(model)
    assert len(taps.layers) == blocks
    torch.manual_seed(1)
    logits = model(IMAGES)
    assert torch.equal(logits, expected)
    for vectors in taps.attention:
        assert vectors.shape == (4, vectors.shape[1])
        assert ((vectors >= 0) & (vectors <= 1)).all()
    ratios = [ccloss.functional.channel_correlation(each, LABELS) for each in taps.attention]
    sum(ratios).backward()
    assert any(p.grad is not None and p.grad.any() for p in model.parameters())


@pytest.mark.parametrize("name", TIMM)
def test_tap_models_of_timm(name: str) -> None:
    check(timm.create_model(name, num_classes=7), TIMM[name])


@pytest.mark.parametrize("name", TORCHVISION)
def test_tap_models_of_torchvision(name: str) -> None:
    check(getattr(torchvision.models, name)(num_classes=7), TORCHVISION[name])


@pytest.fixture
def block_model() -> nn.Sequential:
    """A convolution, two SE blocks of torchvision and a classifier."""
    block = torchvision.ops.SqueezeExcitation
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), block(8, 2), block(8, 4), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(8, 5),
    )  # fmt: skip


def test_taps_are_the_scales_of_the_blocks(block_model: nn.Sequential) -> None:
    with tap(block_model) as taps:
        block_model(IMAGES)
        first, second = taps.attention
        maps = block_model[0](IMAGES)
        scales = block_model[1]._scale(maps)
        torch.testing.assert_close(first, scales[:, :, 0, 0])
        torch.testing.assert_close(second, block_model[2]._scale(maps * scales)[:, :, 0, 0])


def test_layers_by_name(block_model: nn.Sequential) -> None:
    logits = block_model(IMAGES)
    assert tap(block_model, "2").layers == ("2",)
    taps = tap(block_model, ["2", "2.scale_activation", "5"])
    block_model(IMAGES)
    scales, same, last = taps.attention
    assert torch.equal(scales, same)
    assert torch.equal(last, logits)


def test_one_tap_gives_a_tensor_for_the_loss(block_model: nn.Sequential) -> None:
    taps = tap(block_model, layers="2")
    logits = block_model(IMAGES)
    output = Output(logits, logits, attention=taps.attention)
    terms = CCLoss(weight=2.0).terms(output, LABELS)
    ratio = ccloss.functional.channel_correlation(taps.attention, LABELS)
    torch.testing.assert_close(terms["ratio"], ratio)
    terms["total"].backward()
    assert block_model[2].fc1.weight.grad is not None


def test_channel_attention_of_a_classifier_is_found() -> None:
    model = build_model("convnet", 5, image_size=32, hidden_features=8)
    taps = tap(model)
    assert taps.layers == ("head.attention",)
    assert model(IMAGES).attention is taps.attention


def test_removed_taps_record_nothing(block_model: nn.Sequential) -> None:
    taps = tap(block_model)
    block_model(IMAGES)
    taps.remove()
    block_model(IMAGES)
    with pytest.raises(InputError, match="attention of layer '1' is missing"):
        _ = taps.attention
    assert not any(module._forward_hooks for module in block_model.modules())


def test_copies_of_the_model_do_not_record(block_model: nn.Sequential) -> None:
    taps = tap(block_model)
    block_model(IMAGES)
    recorded = taps.attention
    average = torch.optim.swa_utils.AveragedModel(block_model)
    average(IMAGES.flip(0))
    copy.deepcopy(block_model)(IMAGES.flip(0))
    assert all(a is b for a, b in zip(taps.attention, recorded, strict=True))


def test_compiled_model_records(block_model: nn.Sequential) -> None:
    taps = tap(block_model)
    block_model(IMAGES)
    expected = taps.attention
    torch._dynamo.reset()
    torch.compile(block_model, backend="aot_eager")(IMAGES)
    torch.testing.assert_close(taps.attention, expected)


@pytest.mark.parametrize(
    ("layers", "message"),
    [
        ("3.gate", "layers must name a layer of Sequential, got '3.gate'"),
        (["1", "2.scale_activatoin"], "did you mean '2.scale_activation'"),
        ([], "layers must name at least one layer, got none"),
    ],
)
def test_unknown_layers_are_rejected(
    block_model: nn.Sequential, layers: str | list[str], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        tap(block_model, layers)
    assert not any(module._forward_hooks for module in block_model.modules())


def test_layers_without_vectors_are_rejected(block_model: nn.Sequential) -> None:
    tap(block_model, "0")
    with pytest.raises(InputError, match=r"layer '0' must give attention \(N, D\) or .*got \(4, 8"):
        block_model(IMAGES)


def test_model_without_attention_and_early_reads_are_rejected(block_model: nn.Sequential) -> None:
    with pytest.raises(InputError, match="Linear contains no squeeze-and-excitation block"):
        tap(nn.Linear(3, 4))
    with pytest.raises(InputError, match="attention of layer '1' is missing: call the model"):
        _ = tap(block_model).attention
