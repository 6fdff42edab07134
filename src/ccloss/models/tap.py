"""Attention vectors of squeeze-and-excitation blocks that a model already contains."""

from collections.abc import Sequence
from typing import Any, Self

from torch import Tensor, nn

from ccloss.errors import InputError
from ccloss.models.attention import ChannelAttention
from ccloss.models.layers import require_layer

_SE_BLOCKS = ("SEModule", "SqueezeExcite", "SqueezeExciteCl", "EffectiveSEModule")
"""Class names of timm's blocks."""

_GATES = {
    **dict.fromkeys(_SE_BLOCKS, ("gate", "sigmoid")),
    "SqueezeExcitation": ("scale_activation",),  # torchvision
}
"""Class name of a block -> attributes one of which is the module that computes the attention."""


class Taps:
    """Attention vectors of the last forward pass of a model; made by :func:`tap`.

    Attributes:
        layers: dotted names of the layers.
    """

    def __init__(self, model: nn.Module, layers: Sequence[str]) -> None:
        self.layers = tuple(layers)
        self._values: dict[str, Tensor] = {}
        modules = [_attention_module(require_layer(model, name, "layers")) for name in self.layers]
        self._handles = [model.register_forward_pre_hook(_Clear(self, model))]
        for name, module in zip(self.layers, modules, strict=True):
            self._handles.append(module.register_forward_hook(_Record(self, module, name)))

    @property
    def attention(self) -> Tensor | tuple[Tensor, ...]:
        """(N, D) attention of the last forward pass, or one such tensor for each of several layers.

        Raises:
            InputError: a layer was not called since the last forward pass began.
        """
        missing = [name for name in self.layers if name not in self._values]
        if missing:
            raise InputError(
                f"attention of layer {missing[0]!r} is missing: call the model that was tapped "
                "before reading it"
            )
        values = tuple(self._values[name] for name in self.layers)
        return values[0] if len(values) == 1 else values

    def remove(self) -> None:
        """Removes the hooks from the model and forgets the recorded vectors."""
        for handle in self._handles:
            handle.remove()
        self._values.clear()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.remove()


def tap(model: nn.Module, layers: str | Sequence[str] | None = None) -> Taps:
    """Records the attention vectors of a model without changing its output.

    ::

        taps = ccloss.tap(model)
        logits = model(images)
        loss(ccloss.Output(logits, attention=taps.attention), labels)

    The hooks record the module that was given only: a copy of the model, as in
    ``AveragedModel``, does not record.

    Args:
        model: any module.
        layers: dotted names of layers: squeeze-and-excitation blocks, or modules whose output is
            (N, D) or (N, D, 1, 1). By default all blocks of the classes ``SEModule``,
            ``SqueezeExcite`` and ``EffectiveSEModule`` of timm, ``SqueezeExcitation`` of
            torchvision, and :class:`ChannelAttention`.

    Raises:
        InputError: an unknown layer, or a model without such blocks.
    """
    if layers is None:
        layers = [name for name, module in model.named_modules() if _is_attention(module)]
        if not layers:
            raise InputError(
                f"{type(model).__name__} contains no squeeze-and-excitation block: pass the dotted "
                "names of the layers that compute attention as layers"
            )
    elif isinstance(layers, str):
        layers = [layers]
    elif not layers:
        raise InputError("layers must name at least one layer, got none")
    return Taps(model, layers)


def _is_attention(module: nn.Module) -> bool:
    return isinstance(module, ChannelAttention) or _attention_module(module) is not module


def _attention_module(module: nn.Module) -> nn.Module:
    """The module inside a squeeze-and-excitation block that computes attention, else itself."""
    for attribute in _GATES.get(type(module).__name__, ()):
        gate = getattr(module, attribute, None)
        if isinstance(gate, nn.Module):
            return gate
    return module


class _Hook:
    """A hook of one module, which ignores calls of copies of the module."""

    def __init__(self, taps: Taps, module: nn.Module) -> None:
        self.taps = taps
        self.module = module

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self


class _Clear(_Hook):
    def __call__(self, module: nn.Module, args: Any) -> None:
        if module is self.module:
            self.taps._values.clear()


class _Record(_Hook):
    def __init__(self, taps: Taps, module: nn.Module, name: str) -> None:
        super().__init__(taps, module)
        self.name = name

    def __call__(self, module: nn.Module, args: Any, output: Any) -> None:
        if module is not self.module:
            return
        shape = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
        if not isinstance(output, Tensor) or sum(size > 1 for size in output.shape[1:]) > 1:
            raise InputError(
                f"layer {self.name!r} must give attention (N, D) or (N, D, 1, 1), got {shape}: "
                "choose another layer"
            )
        self.taps._values[self.name] = output.flatten(1)
