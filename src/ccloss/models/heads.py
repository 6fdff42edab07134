"""The classifier on top of a backbone."""

import torch.nn.functional as F
from torch import Tensor, nn

from ccloss.models.attention import ChannelAttention, check_positive, squeeze
from ccloss.output import Output


class ClassifierHead(nn.Module):
    """A hidden layer weighted by channel attention, and a classification layer (sec. 2.1).

    ::

        features = ReLU(f1(F) * attention)        without attention: ReLU(f1(F))
        logits   = f2(features)

    Weights start as He et al., *Delving Deep into Rectifiers* (2015), biases at 0.

    Args:
        in_features: C, width of the backbone's features.
        hidden_features: D, width of the hidden layer.
        num_classes: K.
        attention: with or without the attention module; all else is the same.
        reduction: of :class:`ChannelAttention`.
        unit_classifier: a classification layer without bias whose rows have unit length, so that
            a logit is |features| cos(angle to the row), as losses on angles want it.
            ``Output.classifier_weight`` is then the unit rows.

    Raises:
        InputError: an argument below 1.
    """

    def __init__(
        self,
        in_features: int,
        hidden_features: int,
        num_classes: int,
        attention: bool = True,
        reduction: int = 16,
        unit_classifier: bool = False,
    ) -> None:
        super().__init__()
        check_positive(
            in_features=in_features, hidden_features=hidden_features, num_classes=num_classes
        )
        self.hidden = nn.Linear(in_features, hidden_features)
        self.attention = (
            ChannelAttention(in_features, hidden_features, reduction) if attention else None
        )
        self.unit_classifier = unit_classifier
        self.classify = nn.Linear(hidden_features, num_classes)
        if unit_classifier:  # drawn with its bias, so that all weights start as in a plain head
            self.classify.register_parameter("bias", None)
        he_initialise(self)

    def forward(self, features: Tensor) -> Output:
        """(N, C, H, W) map or (N, C) vectors of the backbone -> logits, features and attention."""
        hidden = self.hidden(squeeze(features))
        attention = None
        if self.attention is not None:
            attention = self.attention(features)
            hidden = hidden * attention
        hidden = hidden.relu()
        if self.unit_classifier:
            weight = F.normalize(self.classify.weight)
            logits = F.linear(hidden, weight)
        else:
            weight = self.classify.weight
            logits = self.classify(hidden)
        return Output(logits=logits, features=hidden, attention=attention, classifier_weight=weight)


def he_initialise(module: nn.Module) -> None:
    """Draws every convolution and linear layer anew as He et al. (2015); biases become 0."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
