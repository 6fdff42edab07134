"""Channel attention against its formula and timm's SE module."""

import pytest
import torch
from timm.layers import SEModule
from torch import Tensor

from ccloss import ChannelAttention
from ccloss.errors import InputError


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def test_attention_equals_its_formula() -> None:
    module, features = ChannelAttention(32, 8, reduction=4), draw(5, 32, 3, 3)
    squeezed = features.sum((2, 3)) / 9
    hidden = torch.clamp(squeezed @ module.reduce.weight.T, min=0)
    expected = 1 / (1 + torch.exp(-(hidden @ module.expand.weight.T)))
    torch.testing.assert_close(module(features), expected)


def test_attention_equals_the_gate_of_timms_se_module() -> None:
    features = draw(5, 32, 3, 3)
    ours = ChannelAttention(32, 32, reduction=4)
    theirs = SEModule(32, rd_channels=8, bias=False)
    with torch.no_grad():
        theirs.fc1.weight.copy_(ours.reduce.weight[:, :, None, None])
        theirs.fc2.weight.copy_(ours.expand.weight[:, :, None, None])
    gated = features * ours(features)[:, :, None, None]
    torch.testing.assert_close(gated, theirs(features))


def test_vectors_are_not_pooled() -> None:
    module, vectors = ChannelAttention(32, 8), draw(5, 32)
    torch.testing.assert_close(module(vectors), module(vectors[:, :, None, None]))


@pytest.mark.parametrize(("width", "units"), [(512, 32), (40, 2), (8, 1)])
def test_bottleneck_is_reduced_but_never_empty(width: int, units: int) -> None:
    assert ChannelAttention(width, 16).reduce.out_features == units


def test_attention_is_float32_under_autocast() -> None:
    module, features = ChannelAttention(32, 8), draw(5, 32, 3, 3).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        attention = module(features)
    assert attention.dtype == torch.float32
    squeezed = features.mean((2, 3)).float()
    assert torch.equal(attention, module(squeezed))


@pytest.mark.parametrize("argument", ["in_features", "channels", "reduction"])
def test_attention_rejects_sizes_below_one(argument: str) -> None:
    sizes = {"in_features": 8, "channels": 8, "reduction": 2, argument: 0}
    with pytest.raises(InputError, match=f"{argument} must be an integer of at least 1, got 0"):
        ChannelAttention(**sizes)
