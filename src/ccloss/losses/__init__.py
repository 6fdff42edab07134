"""The losses, all called as ``loss(output, labels)``."""

from ccloss.losses.channel_correlation import ChannelCorrelationLoss
from ccloss.losses.cross_entropy import CrossEntropyLoss
from ccloss.losses.loss import Loss

LOSSES: dict[str, type[Loss]] = {
    "ce": CrossEntropyLoss,
    "cc": ChannelCorrelationLoss,
}
"""Name of each loss in the command and in tables, and its class."""

__all__ = ["LOSSES", "ChannelCorrelationLoss", "CrossEntropyLoss", "Loss"]
