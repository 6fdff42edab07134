"""The classifier on top of a backbone."""

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
    ) -> None:
        super().__init__()
        check_positive(
            in_features=in_features, hidden_features=hidden_features, num_classes=num_classes
        )
        self.hidden = nn.Linear(in_features, hidden_features)
        self.attention = (
            ChannelAttention(in_features, hidden_features, reduction) if attention else None
        )
        self.classify = nn.Linear(hidden_features, num_classes)
        he_initialise(self)

    def forward(self, features: Tensor) -> Output:
        """(N, C, H, W) map or (N, C) vectors of the backbone -> logits, features and attention."""
        hidden = self.hidden(squeeze(features))
        attention = None
        if self.attention is not None:
            attention = self.attention(features)
            hidden = hidden * attention
        hidden = hidden.relu()
        return Output(
            logits=self.classify(hidden),
            features=hidden,
            attention=attention,
            classifier_weight=self.classify.weight,
        )


def he_initialise(module: nn.Module) -> None:
    """Draws every convolution and linear layer anew as He et al. (2015); biases become 0."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
