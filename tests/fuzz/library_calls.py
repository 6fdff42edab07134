"""Calls of the library with hostile arguments: a result, or an input error of one line."""

import random
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from fuzz_report import Report
from torch import Tensor

import ccloss
import reference
from ccloss.functional import channel_correlation, class_distances
from ccloss.losses import LOSSES, make_loss
from ccloss.models import build_model

N, D, K = 6, 8, 3

VALID_TENSORS = ["float32", "float64", "float16", "bfloat16", "strided", "requires grad"]
VALID_LABELS = ["labels", "int32 labels", "uint8 labels", "soft labels"]


class Call(NamedTuple):
    """A call, and the value that it must have if it returns."""

    name: str
    execute: Callable[[], Any]
    expected: Callable[[], Sequence[Tensor]] | None = None


def run(report: Report, chance: random.Random, number: int) -> None:
    """Executes random calls."""
    for index in range(number):
        torch.manual_seed(index)
        call = _call(chance)
        with report.case("library calls", call.name):
            _check(report, call, call.execute())


def _check(report: Report, call: Call, result: Any) -> None:
    """The result is a scalar or two; it is finite unless an argument is not."""
    found = [result] if isinstance(result, Tensor) else list(result or ())
    for value in found:
        if value.ndim:
            report.fault("silent difference", call.name, f"result of shape {tuple(value.shape)}")
        elif not value.isfinite() and "nan" not in call.name and "inf" not in call.name:
            report.fault("silent difference", call.name, f"result {value.item()}")
    if call.expected is not None and "nan" not in call.name:
        for value, expected in zip(found, call.expected(), strict=True):
            if not torch.isclose(value.double(), expected.double(), rtol=1e-4, atol=1e-5):
                report.fault("silent difference", call.name, f"{value.item()}, not {expected}")


def _call(chance: random.Random) -> Call:
    kind = chance.choice(["function", "loss", "construct", "model"])
    if kind == "function":
        return _function_call(chance)
    if kind == "loss":
        loss = chance.choice(list(LOSSES))
        (first, output), (second, labels) = _output(chance), _labels(chance)
        return Call(
            f"{loss}({first}, {second})",
            lambda: make_loss(loss, num_classes=K, features=D)(output, labels),
        )
    if kind == "construct":
        loss = chance.choice([*LOSSES, "x", "", "pml:", "pml:x"])
        names = ["weight", "eps", "reduction", "gamma", "margin", "scale", "alpha", "class_weights",
                 "label_smoothing", "x"]  # fmt: skip
        text, options = _options(chance, names)
        return Call(
            f"make_loss({loss!r}{text})",
            lambda: make_loss(loss, options, num_classes=K, features=D) and None,
        )
    names = [
        "num_classes",
        "in_channels",
        "image_size",
        "hidden_features",
        "attention",
        "reduction",
    ]
    text, options = _options(chance, names)
    arguments = {"num_classes": K, "in_channels": 1, "image_size": 8, **options}
    return Call(
        f"build_model('convnet'{text})", lambda: build_model("convnet", **arguments) and None
    )


def _function_call(chance: random.Random) -> Call:
    (first, attention), (second, labels) = _tensor(chance), _labels(chance)
    arguments = f"({first}, {second}"
    if chance.random() < 0.3:
        text, options = _options(chance, ["eps", "reduction"])
        return Call(
            f"channel_correlation{arguments}{text})",
            lambda: channel_correlation(attention, labels, **options),
        )
    function, loop = chance.choice(
        [
            (channel_correlation, lambda *batch: [reference.channel_correlation(*batch)]),
            (class_distances, reference.class_distances),
        ]
    )
    return Call(
        f"{function.__name__}{arguments})",
        lambda: function(attention, labels),
        lambda: loop(attention, labels if labels.is_floating_point() else labels.long()),
    )


SCALARS: list[Any] = [
    *(0, 1, -1, 2.5, float("nan"), float("inf"), 10**400, 1j, True, None, object(), {}, [], (1, 2)),
    *("x", "", "mean", b"x", [1.0], [1.0, -1.0, 2.0], [1.0, 1.0, 1.0]),
    *(torch.tensor(1.0), torch.tensor([1.0, 2.0])),
]


def _options(chance: random.Random, names: list[str]) -> tuple[str, dict[str, Any]]:
    options = {name: chance.choice(SCALARS) for name in chance.sample(names, chance.randint(1, 2))}
    return "".join(f", {key}={str(value)[:30]}" for key, value in options.items()), options


def _tensor(chance: random.Random, *shape: int) -> tuple[str, Any]:
    plain = torch.rand(shape or (N, D))
    makers: dict[str, Callable[[], Any]] = {
        "float32": lambda: plain,
        "float64": lambda: plain.double(),
        "float16": lambda: plain.half(),
        "bfloat16": lambda: plain.bfloat16(),
        "float8": lambda: plain.to(torch.float8_e4m3fn),
        "int64": lambda: (plain * 5).long(),
        "bool": lambda: plain > 0.5,
        "complex": lambda: plain.to(torch.complex64),
        "sparse": lambda: plain.to_sparse(),
        "nested": lambda: torch.nested.nested_tensor(list(plain), layout=torch.jagged),
        "quantized": lambda: torch.quantize_per_tensor(plain, 0.1, 0, torch.quint8),
        "meta": lambda: plain.to("meta"),
        "nan": lambda: plain * float("nan"),
        "empty": lambda: plain[:0],
        "no columns": lambda: plain[:, :0],
        "1-d": lambda: plain[0],
        "3-d": lambda: plain[None],
        "scalar": lambda: plain.sum(),
        "strided": lambda: torch.rand(2 * len(plain), plain.shape[-1])[::2],
        "requires grad": lambda: plain.clone().requires_grad_(),
        "list": lambda: plain.tolist(),
        "array": lambda: plain.numpy(),
        "None": lambda: None,
        "text": lambda: "x",
    }
    name = chance.choice(VALID_TENSORS if chance.random() < 0.6 else list(makers))
    return name, makers[name]()


def _labels(chance: random.Random) -> tuple[str, Any]:
    plain = torch.arange(N) % K
    makers: dict[str, Callable[[], Any]] = {
        "labels": lambda: plain,
        "int32 labels": lambda: plain.int(),
        "uint8 labels": lambda: plain.byte(),
        "uint16 labels": lambda: plain.to(torch.uint16),
        "soft labels": lambda: torch.rand(N, K).softmax(1),
        "soft labels without sum 1": lambda: torch.rand(N, K),
        "labels out of range": lambda: plain + K,
        "negative labels": lambda: plain - 1,
        "short labels": lambda: plain[:2],
        "float labels": lambda: plain.float(),
        "list of labels": plain.tolist,
        "array of labels": plain.numpy,
        "bool labels": lambda: plain > 0,
    }
    if chance.random() < 0.1:
        return _tensor(chance, N, K)
    name = chance.choice(VALID_LABELS if chance.random() < 0.6 else list(makers))
    return name, makers[name]()


def _output(chance: random.Random) -> tuple[str, Any]:
    head = torch.rand(N, D)
    fields: dict[str, Any] = {
        "logits": torch.rand(N, K),
        "features": head,
        "attention": head,
        "feature_map": torch.rand(N, D, 2, 2),
        "classifier_weight": torch.rand(K, D),
    }
    form = chance.random()
    if form < 0.15:
        wrong: Any = chance.choice([tuple(fields.values()), fields, fields["logits"], None, "x", 3])
        return f"{type(wrong).__name__} as output", wrong
    field = chance.choice(list(fields))
    name, value = _tensor(chance, *fields[field].shape)
    return f"{field}={name}", ccloss.Output(**{**fields, field: value})
