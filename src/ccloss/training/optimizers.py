"""Optimisers by name, and their groups of parameters."""

from typing import Any

import torch
from torch import Tensor, nn

from ccloss.errors import InputError, did_you_mean, first_line
from ccloss.losses import Loss
from ccloss.models import Classifier
from ccloss.training.config import RunConfig

SCALE = "lr_scale"
"""Key of a group of parameters: its learning rate relative to that of the run, as in timm."""


def build_optimizer(config: RunConfig, model: Classifier, loss: Loss) -> torch.optim.Optimizer:
    """The optimiser of a run, over the parameters of the network and of the loss.

    Raises:
        InputError: an unknown optimiser, or one that this trainer cannot use.
    """
    if config.optimizer != "sgd":
        _check_usable(config)
    return _make(config, _groups(config, model, loss))


def set_learning_rate(optimizer: torch.optim.Optimizer, learning_rate: float | Tensor) -> None:
    """Sets the learning rate of every group of parameters."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate * group.get(SCALE, 1.0)


def _groups(config: RunConfig, model: Classifier, loss: Loss) -> list[dict[str, Any]]:
    """The parameters in the order of the modules, whatever the number of groups."""
    backbone = list(model.backbone.parameters())
    others = [*model.head.parameters(), *loss.parameters()]
    if config.backbone_rate_factor == 1:
        return [{"params": backbone + others}]
    return [
        {"params": backbone, SCALE: config.backbone_rate_factor},
        {"params": others},
    ]


def _make(config: RunConfig, groups: list[dict[str, Any]]) -> torch.optim.Optimizer:
    if config.optimizer == "sgd":
        return _make_sgd(config, groups)
    import timm.optim

    create: Any = timm.optim.create_optimizer_v2  # type: ignore[attr-defined]
    optimizer: torch.optim.Optimizer = create(
        groups,
        opt=config.optimizer,
        lr=config.learning_rate,
        momentum=config.momentum,
        weight_decay=config.weight_decay,
    )
    return optimizer


def _make_sgd(config: RunConfig, groups: list[dict[str, Any]]) -> torch.optim.SGD:
    """Fused SGD whose momentum starts at 0, which is the same as PyTorch's start at the gradient.

    The fused step fails if some parameters have momentum and others not yet, such as those of a
    backbone that is frozen in the first epochs.
    """
    optimizer = torch.optim.SGD(
        groups,
        lr=config.learning_rate,
        momentum=config.momentum,
        weight_decay=config.weight_decay,
        nesterov=config.nesterov,
        fused=True,
    )
    if config.momentum:
        for parameter in (each for group in groups for each in group["params"]):
            optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return optimizer


def _check_usable(config: RunConfig) -> None:
    """Checks one step on small tensors: some optimisers need a closure or second derivatives.

    Raises:
        InputError: the optimiser is unknown, cannot make the step, or has a state that a
            checkpoint cannot hold.
    """
    import timm.optim

    known: Any = timm.optim.list_optimizers()  # type: ignore[attr-defined]
    name = config.optimizer
    if name not in known:
        near = did_you_mean(name, known)
        raise InputError(
            f"optimizer must be sgd or an optimiser of timm (timm.optim.list_optimizers()), got "
            f"{name!r}{near}"
        )
    parameters = [nn.Parameter(torch.ones(size)) for size in ((2, 2, 3, 3), (4, 4), (4,))]
    try:
        optimizer = _make(config, [{"params": parameters}])
        torch.stack([parameter.square().sum() for parameter in parameters]).sum().backward()
        # Compiling the step of an optimiser can take a minute.
        with torch.compiler.set_stance("force_eager"):
            optimizer.step()
    except Exception as error:  # of any type: the optimiser is not made for such a step
        reason = first_line(error)
        raise InputError(
            f"optimizer {name!r} cannot be used here ({reason}); choose another one"
        ) from error
    values = [value for state in optimizer.state.values() for value in state.values()]
    if any(isinstance(value, list | tuple | dict) for value in values):
        raise InputError(
            f"optimizer {name!r} has a state that a checkpoint cannot hold; choose another one"
        )
