"""A classifier head with channel attention for an existing model."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from ccloss.errors import InputError
from ccloss.models.heads import ClassifierHead
from ccloss.models.layers import require_layer
from ccloss.output import Output
from ccloss.validation import require_positive_integer

_DISTILLED = (
    ("cls_classifier", "distillation_classifier"),  # DeiT
    ("classifier", "classifier_distill"),  # LeViT
)
"""Classifiers of distilled models of transformers, which average the logits of both."""


class AttachedClassifier(nn.Module):
    """A model whose classifier is replaced by a :class:`ClassifierHead`.

    Args:
        model: a model that returns (N, ``head.hidden.in_features``) features, or an object whose
            ``logits`` are these features.
        head: features to logits.
    """

    def __init__(self, model: nn.Module, head: ClassifierHead) -> None:
        super().__init__()
        self.model = model
        self.head = head

    def forward(self, *args: Any, **kwargs: Any) -> Output:
        """Calls the model with these arguments and the head with its features.

        Raises:
            InputError: the model's result has no features of the head's width.
        """
        result = self.model(*args, **kwargs)
        features = result if isinstance(result, Tensor) else getattr(result, "logits", None)
        width = self.head.hidden.in_features
        if not isinstance(features, Tensor) or features.ndim != 2 or features.shape[1] != width:
            shape = tuple(features.shape) if isinstance(features, Tensor) else type(result).__name__
            raise InputError(
                f"model must give features (N, {width}) without its classifier, got {shape}: pass "
                "the dotted name of its last linear layer as classifier"
            )
        output: Output = self.head(features)
        return output


def attach(
    model: nn.Module,
    num_classes: int | None = None,
    hidden_features: int = 512,
    attention: bool = True,
    classifier: str | Sequence[str] | None = None,
    **head_options: Any,
) -> AttachedClassifier:
    """Replaces the classifier of a model by a :class:`ClassifierHead`.

    All other weights stay as they are, and frozen parameters stay frozen. The last linear layer of
    ``model`` is replaced by the identity; ``model`` itself is changed. The forward pass takes the
    arguments of ``model`` and returns :class:`~ccloss.Output`; ``Output.feature_map`` is ``None``.

        >>> import torch, ccloss
        >>> layers = [torch.nn.Flatten(), torch.nn.Linear(64, 32), torch.nn.Linear(32, 10)]
        >>> model = ccloss.attach(torch.nn.Sequential(*layers), hidden_features=16)
        >>> model(torch.rand(4, 1, 8, 8)).attention.shape
        torch.Size([4, 16])

    Args:
        model: an image classifier of torchvision, timm or Hugging Face, or any module that ends in
            a linear layer and returns a tensor or an object with ``logits``.
        num_classes: K; by default that of the replaced layer.
        hidden_features: D, width of the hidden layer and of attention.
        attention: whether the head has channel attention.
        classifier: dotted name of the last linear layer, or of a module that contains it; several
            names for a model that averages the logits of several classifiers. By default the names
            that timm records, the two classifiers of a distilled model of transformers, or the
            linear layer that is registered last.
        head_options: further arguments of :class:`ClassifierHead`.

    Raises:
        InputError: no linear layer, an unknown name, or an argument out of range.
    """
    names = (classifier,) if isinstance(classifier, str) else classifier
    if names is None:
        names = _classifier_names(model)
    if not names:
        raise InputError("classifier must name at least one layer, got none")
    layers = [_last_linear(model, name) for name in names]
    old = model.get_submodule(layers[0])
    if num_classes is None:
        num_classes = _sizes(old)[1]
    require_positive_integer("num_classes", num_classes)
    head = ClassifierHead(_sizes(old)[0], hidden_features, num_classes, attention, **head_options)
    for weight in old.parameters():
        head.to(weight.device, weight.dtype)
    head.train(model.training)
    for layer in layers:
        parent, _, child = layer.rpartition(".")
        setattr(model.get_submodule(parent), child, nn.Identity())
    return AttachedClassifier(model, head).train(model.training)


def _classifier_names(model: nn.Module) -> tuple[str, ...]:
    """Names of the classifiers of timm or a distilled model, else the whole model."""
    known = dict(model.named_modules())
    for pair in _DISTILLED:
        if known.keys() >= set(pair):
            return pair
    config = getattr(model, "pretrained_cfg", None)
    recorded = config.get("classifier") if isinstance(config, dict) else None
    if not recorded:
        return ("",)
    names = (recorded,) if isinstance(recorded, str) else tuple(recorded)
    return tuple(name for name in names if name in known) or ("",)


def _last_linear(model: nn.Module, name: str) -> str:
    """Name of the last linear layer, or else 1x1 convolution, in the module of that name."""
    module = require_layer(model, name, "classifier")
    layers = [
        (".".join(filter(None, (name, inner))), layer) for inner, layer in module.named_modules()
    ]
    linear = [full_name for full_name, layer in layers if isinstance(layer, nn.Linear)]
    linear = linear or [full_name for full_name, layer in layers if _is_pointwise(layer)]
    if not linear:
        where = f"layer {name!r} ({type(module).__name__})" if name else "model"
        raise InputError(
            f"{where} contains no linear layer: pass the dotted name of the last linear layer as "
            "classifier"
        )
    if linear[-1] == "":
        raise InputError("model must contain other layers than its classifier, got one nn.Linear")
    return linear[-1]


def _is_pointwise(layer: nn.Module) -> bool:
    """Whether the layer is a convolution that is linear in each position, as in SqueezeNet."""
    return isinstance(layer, nn.Conv2d) and layer.kernel_size == (1, 1) and layer.groups == 1


def _sizes(layer: nn.Module) -> tuple[int, int]:
    """Input and output width."""
    if isinstance(layer, nn.Conv2d):
        return layer.in_channels, layer.out_channels
    assert isinstance(layer, nn.Linear)
    return layer.in_features, layer.out_features
