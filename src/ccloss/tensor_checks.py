"""Checks of tensors passed to losses."""

from typing import Any

import torch
from torch import Tensor

from ccloss.errors import InputError

IGNORE_INDEX = -100
"""Samples with this label are left out, as in :func:`torch.nn.functional.cross_entropy`."""

_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def check_floats(name: str, value: Any, shape: str) -> None:
    """Raises :class:`InputError` unless ``value`` is a floating-point tensor.

    Args:
        name: name of the argument.
        value: what was passed.
        shape: its dimensions for the message; their number is checked, as in ``"(N, D)"``.
    """
    check_tensor(name, value, f"{shape} floating-point numbers")
    if value.ndim != shape.count(",") + 1 or not is_float(value):
        raise InputError(f"{name} must be {shape} floating point, got {describe(value)}")


def check_tensor(name: str, value: Any, expected: str) -> None:
    """Raises :class:`InputError` unless ``value`` is a dense tensor.

    Args:
        name: name of the argument.
        value: what was passed.
        expected: what the argument must be, for the message.
    """
    if not isinstance(value, Tensor):
        raise InputError(
            f"{name} must be a tensor of {expected}, got {type(value).__name__}; "
            "convert it with torch.as_tensor"
        )
    if value.is_nested or value.layout != torch.strided or value.is_quantized:
        raise InputError(f"{name} must be a dense tensor of {expected}, got {describe(value)}")


def check_same_device(vectors: Tensor, labels: Tensor) -> None:
    """Raises :class:`InputError` if labels are on another device than the vectors or logits."""
    if labels.device != vectors.device:
        raise InputError(
            f"labels must be on the device of the model's output, {vectors.device}, got labels on "
            f"{labels.device}; move them with labels.to({str(vectors.device)!r})"
        )


def is_float(tensor: Tensor) -> bool:
    """Whether arithmetic works with the tensor's type: float16, bfloat16, float32 or float64."""
    return tensor.dtype in _FLOATS


def check_labels(labels: Tensor, samples: int, num_classes: int | None = None) -> bool:
    """Checks labels: (N,) integer classes or (N, K) rows of probabilities.

    Args:
        labels: what was passed.
        samples: N, at least 1.
        num_classes: K, if known.

    Returns:
        Whether labels may contain -100. True for labels on a device, which are not read.

    Raises:
        InputError: wrong shape or type; on a CPU also wrong values.
    """
    if samples == 0:
        raise InputError("the batch is empty (0 samples); pass at least one sample")
    check_tensor("labels", labels, "(N,) integer classes or (N, K) probabilities")
    if labels.is_floating_point():
        fits = labels.ndim == 2 and labels.shape[1] > 0 and is_float(labels)
        fits = fits and num_classes in (None, labels.shape[1])
    else:
        fits = labels.ndim == 1 and labels.dtype != torch.bool and not labels.is_complex()
    if not fits:
        width = "K" if num_classes is None else num_classes
        raise InputError(
            f"labels must be (N,) integer classes or (N, {width}) probabilities, "
            f"got {describe(labels)}"
        )
    if len(labels) != samples:
        raise InputError(
            f"labels must have one entry for each sample: {len(labels)} labels, {samples} samples"
        )
    if labels.is_floating_point():
        if is_readable(labels):
            _check_probabilities(labels)
        return False
    return not is_readable(labels) or _check_classes(labels.long(), num_classes)


def is_readable(labels: Tensor) -> bool:
    """Whether the values are on the CPU and known: not while tracing, not inside torch.func."""
    return labels.device.type == "cpu" and _is_plain(labels)


def is_eager(tensor: Tensor) -> bool:
    """Whether the tensor is not traced, not inside torch.func and has no forward-mode tangent."""
    return _is_plain(tensor) and torch.autograd.forward_ad.unpack_dual(tensor).tangent is None


def _is_plain(tensor: Tensor) -> bool:
    """Whether operations run immediately: not while tracing, not inside torch.func."""
    return (
        not torch.compiler.is_compiling()
        and type(tensor) in (Tensor, torch.nn.Parameter)
        and not torch._C._functorch.is_functorch_wrapped_tensor(tensor)
    )


def _check_probabilities(rows: Tensor) -> None:
    sums = rows.detach().sum(1, dtype=torch.float64)
    # The tolerance admits rows in bfloat16; counts and logits are what it rejects.
    if not bool(((sums - 1).abs() < 1e-2).all() & (rows >= 0).all()):
        raise InputError(
            "labels given as rows must be probabilities that sum to 1, "
            f"got sums from {sums.min():.4g} to {sums.max():.4g} and values from {rows.min():.4g}"
        )


def _check_classes(labels: Tensor, num_classes: int | None) -> bool:
    """Checks the range of class labels; whether some of them are :data:`IGNORE_INDEX`."""
    lowest, highest = (int(value) for value in labels.aminmax())
    has_ignored = lowest < 0
    if has_ignored:
        lowest = int(labels.where(labels != IGNORE_INDEX, 0).min())
    if lowest < 0 or (num_classes is not None and highest >= num_classes):
        last = "K - 1" if num_classes is None else num_classes - 1
        raise InputError(
            f"labels must lie in 0..{last} ({IGNORE_INDEX} leaves a sample out), "
            f"got {lowest if lowest < 0 else highest}"
        )
    return has_ignored


def describe(tensor: Tensor) -> str:
    """Shape, type and layout of a tensor for a message, for example ``(32, 10) float32``."""
    text = f"{tuple(tensor.shape)}" if not tensor.is_nested else "a nested tensor,"
    text += f" {str(tensor.dtype).removeprefix('torch.')}"
    if tensor.layout != torch.strided:
        text += f" {str(tensor.layout).removeprefix('torch.')}"
    return text
