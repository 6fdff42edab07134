"""Losses by name: construction, options, descriptions."""

import math

import pytest
import torch
from torch import Tensor

import ccloss
import reference
from ccloss import Output
from ccloss.errors import InputError
from ccloss.losses import (
    LOSSES,
    ChannelCorrelationLoss,
    CrossEntropyLoss,
    Loss,
    loss_options,
    make_loss,
)
from outputs import HARD, loss_for, make_output

SHARED = {"class_weights": None, "label_smoothing": 0.0}

DEFAULTS = {
    "ce": {},
    "cc": {"weight": 1.0, "eps": 1e-6, "reduction": "sum"},
    "focal": {"gamma": 2.0},
    "a-softmax": {
        "margin": 4,
        "annealing_start": 1000.0,
        "annealing_rate": 0.12,
        "annealing_end": 5.0,
    },
    "mc": {"alpha": 1.5, "beta": 20.0},
    "ical": {"weight": 5.0},
    "fical": {"weight": 5.0},
    "center": {"weight": 0.003},
    "cosface": {"scale": 30.0, "margin": 0.35},
    "arcface": {"scale": 30.0, "margin": 0.5},
    "virtual-softmax": {},
    "class-overlap": {"weight": 1.0, "eps": 1e-6},
}
"""The papers' defaults, but for the scale of CosFace and ArcFace (64, for thousands of classes)."""


@pytest.mark.parametrize("name", LOSSES)
def test_defaults_are_the_papers(name: str) -> None:
    assert loss_options(name).items() >= {**DEFAULTS[name], **SHARED}.items()


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_is_described(name: str) -> None:
    kind = LOSSES[name]
    origins = ("official formula", "our reading", "our variant")
    assert any(origin in kind.source for origin in origins)
    assert 10 < len(kind.formula) < 100
    assert "\n" not in kind.formula
    doc = kind.__doc__
    assert doc is not None
    assert any(origin in doc for origin in origins)


@pytest.mark.parametrize("name", LOSSES)
def test_repr_and_options_agree(name: str) -> None:
    loss = loss_for(name, loss_options(name))
    for option, default in DEFAULTS[name].items():
        assert f"{option}={default!r}" in repr(loss)


def test_options_reach_the_loss() -> None:
    loss = make_loss("cc", {"weight": 2.0, "reduction": "mean"})
    assert isinstance(loss, ChannelCorrelationLoss)
    assert (loss.weight, loss.eps, loss.reduction) == (2.0, 1e-6, "mean")


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("ccc", {}, "loss must be one of ce, cc.*got 'ccc'; did you mean 'cc'"),
        ("cc", {"wieght": 2.0}, "loss cc has no option 'wieght'.*did you mean 'weight'"),
        ("ce", {"eps": 1.0}, "loss ce has no option 'eps': it has class_weights, label_smoothing"),
        ("cc", {"weight": "heavy"}, "weight must be .*, got 'heavy'"),
        ("cc", {"eps": 0.0}, "eps must be a positive number, got 0.0"),
        ("cc", {"reduction": "max"}, 'reduction must be "sum" or "mean", got \'max\''),
        ("a-softmax", {"margin": 1.5}, "margin must be an integer of at least 1, got 1.5"),
        ("arcface", {"margin": 4.0}, "margin must lie between 0 and pi, got 4.0"),
        ("arcface", {"scale": 0.0}, "scale must be a positive number, got 0.0"),
        ("cosface", {"scale": 0.0}, "scale must be a positive number, got 0.0"),
    ],
)
def test_unknown_names_and_values_out_of_range_are_rejected(
    name: str, options: dict[str, object], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        make_loss(name, options)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("value", [-1.0, math.nan, math.inf])
def test_every_loss_rejects_numbers_out_of_range(name: str, value: float) -> None:
    for option, default in loss_options(name).items():
        if isinstance(default, float | int) and not isinstance(default, bool):
            with pytest.raises(InputError, match=f"{option} .*got {value}|{option}.*{value}"):
                loss_for(name, {option: value})


def test_only_losses_with_parameters_need_sizes() -> None:
    with pytest.raises(InputError, match="loss center has parameters and needs num_classes"):
        make_loss("center")
    with pytest.raises(InputError, match="needs features"):
        make_loss("center", num_classes=3)
    with pytest.raises(InputError, match="loss center has no option 'num_classes'"):
        make_loss("center", {"num_classes": 3}, features=2)
    assert isinstance(make_loss("ce", num_classes=3, features=2), CrossEntropyLoss)


def test_only_stateful_losses_have_a_state() -> None:
    states = {name: set(loss_for(name).state_dict()) for name in LOSSES}
    assert {name: state for name, state in states.items() if state} == {
        "a-softmax": {"steps"},
        "center": {"centers"},
    }
    assert [name for name in LOSSES if list(loss_for(name).parameters())] == ["center"]
    assert not CrossEntropyLoss([1.0, 2.0]).state_dict()


class ScaledLoss(Loss):
    """Cross-entropy of scaled logits."""

    def __init__(self, factor: float = 0.5, *, label_smoothing: float = 0.0) -> None:
        super().__init__(label_smoothing=label_smoothing)
        self.factor = factor

    def compute(self, output: Output, labels: Tensor) -> dict[str, Tensor]:
        return {"total": self.cross_entropy(self.factor * output.logits, labels)}


def test_loss_of_ones_own_is_registered_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ccloss.LOSSES, "mine", ScaledLoss)
    assert loss_options("mine") == {"factor": 0.5, "label_smoothing": 0.0}
    output = make_output(dtype=torch.float64)
    total = make_loss("mine", {"factor": 0.25, "label_smoothing": 0.1})(output, HARD)
    expected = reference.softmax_loss(0.25 * output.logits, HARD, smoothing=0.1)
    torch.testing.assert_close(total, expected)
