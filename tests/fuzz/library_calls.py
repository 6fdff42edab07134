"""Calls of the library with hostile arguments: a result, or an input error of one line."""

import random
from collections.abc import Callable
from typing import Any

import torch
from fuzz_report import Report
from torch import Tensor

import ccloss
from ccloss.functional import channel_correlation, class_distances
from ccloss.losses import LOSSES, make_loss
from ccloss.models import build_model

N, D, K = 6, 8, 3


def run(report: Report, chance: random.Random, number: int) -> None:
    """Executes random calls."""
    for index in range(number):
        torch.manual_seed(index)
        name, call = _call(chance)
        with report.case("library calls", name):
            _check(report, name, call())


def _check(report: Report, name: str, result: Any) -> None:
    """The result is a number; it is finite unless an argument is not."""
    if not isinstance(result, Tensor):
        return
    if result.ndim:
        report.fault("silent difference", name, f"result of shape {tuple(result.shape)}")
    elif not result.isfinite() and "nan" not in name and "inf" not in name:
        report.fault("silent difference", name, f"result {result.item()}")


def _call(chance: random.Random) -> tuple[str, Callable[[], Any]]:
    kind = chance.choice(["function", "loss", "construct", "model"])
    if kind == "function":
        function = chance.choice([channel_correlation, class_distances])
        (first, attention), (second, labels) = _tensor(chance), _labels(chance)
        text, options = (
            ("", {}) if chance.random() < 0.7 else _options(chance, ["eps", "reduction"])
        )
        if function is class_distances:
            text, options = "", {}
        name = f"{function.__name__}({first}, {second}{text})"
        return name, lambda: function(attention, labels, **options)
    if kind == "loss":
        loss = chance.choice(list(LOSSES))
        (first, output), (second, labels) = _output(chance), _labels(chance)
        return f"{loss}({first}, {second})", lambda: make_loss(loss, num_classes=K, features=D)(
            output, labels
        )
    if kind == "construct":
        loss = chance.choice([*LOSSES, "x", "", "pml:", "pml:x"])
        names = ["weight", "eps", "reduction", "gamma", "margin", "scale", "alpha", "class_weights",
                 "label_smoothing", "x"]  # fmt: skip
        text, options = _options(chance, names)
        return (
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
    return f"build_model('convnet'{text})", lambda: build_model("convnet", **arguments) and None


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
    name = chance.choice(list(makers))
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
    if chance.random() < 0.2:
        return _tensor(chance, N, K)
    name = chance.choice(list(makers))
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
