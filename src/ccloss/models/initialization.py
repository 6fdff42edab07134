"""He initialization."""

from torch import nn


def he_initialize(module: nn.Module) -> None:
    """Draws the weights of all convolutions and linear layers again; biases become 0.

    He et al., *Delving Deep into Rectifiers* (2015), normal distribution, fan-in.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
