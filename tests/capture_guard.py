"""A guard that runs on a CPU and rejects what a CUDA graph cannot capture."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

_INDEXING = {"aten::index", "aten::index_put_", "aten::index_put", "aten::_index_put_impl_"}


class NotCapturableError(Exception):
    """An operation that waits for the device, or whose output shape depends on values."""


class CaptureGuard(TorchDispatchMode):
    """Raises for operations that a CUDA graph cannot contain, and records all others.

    Attributes:
        operations: one text an operation, with shapes, types and all arguments that are no
            tensors. A captured step repeats the operations of the capture, so the operations of
            two steps must be equal.
    """

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        arguments, _ = tree_flatten((args, kwargs or {}))
        name = func._schema.name
        if torch.Tag.data_dependent_output in func.tags:
            raise NotCapturableError(f"{name} reads a value of the device")
        if name in _INDEXING:
            if any(_is_mask(each) for each in args[1]):
                raise NotCapturableError(f"{name} with a mask has a shape that depends on values")
        elif torch.Tag.dynamic_output_shape in func.tags:
            raise NotCapturableError(f"{name} has a shape that depends on values")
        if name == "aten::lift_fresh":
            raise NotCapturableError("torch.tensor copies a value from the host")
        result = func(*args, **(kwargs or {}))
        if func.namespace != "profiler":
            results, _ = tree_flatten(result)
            self.operations.append(f"{name} {_texts(arguments)} -> {_texts(results)}")
        return result


def _is_mask(value: Any) -> bool:
    return isinstance(value, Tensor) and value.dtype in (torch.bool, torch.uint8)


def _texts(values: Iterable[Any]) -> list[str]:
    return [
        f"{tuple(each.shape)} {each.dtype}" if isinstance(each, Tensor) else repr(each)
        for each in values
    ]
