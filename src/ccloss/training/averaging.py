"""The network of the best epoch, kept beside the trained one."""

import copy

import torch
from torch import nn

from ccloss.models import Classifier


class BestNetwork(nn.Module):
    """A copy of the network in the epoch with the best accuracy so far.

    A module, so that checkpoints hold it: a resumed run selects the epoch that an uninterrupted
    run selects.
    """

    accuracy: torch.Tensor
    epoch: torch.Tensor

    def __init__(self, model: Classifier) -> None:
        super().__init__()
        self.model = copy.deepcopy(model)
        self.register_buffer("accuracy", torch.tensor(-1.0, dtype=torch.float64))
        self.register_buffer("epoch", torch.tensor(0))

    def update(self, model: Classifier, accuracy: float, epoch: int) -> None:
        """Copies the network if its accuracy is higher than that of every epoch before."""
        if accuracy > self.accuracy:
            self.model.load_state_dict(model.state_dict())
            self.accuracy.fill_(accuracy)
            self.epoch.fill_(epoch)
