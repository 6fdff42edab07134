"""The classifier head."""

from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from ccloss.errors import InputError
from ccloss.models.attention import ChannelAttention, squeeze
from ccloss.models.initialization import he_initialize
from ccloss.output import Output
from ccloss.validation import require_boolean, require_choice, require_positive_integer

HeadNorm = Literal["batch", "none"]
Activation = Literal["relu", "identity"]


class ClassifierHead(nn.Module):
    """A hidden layer weighted by channel attention, and a classification layer (sec. 2.1).

    ::

        hidden   = norm(f1(F))
        features = activation(hidden * attention)        without attention: activation(hidden)
        logits   = f2(features)

    Weights start as in He et al., *Delving Deep into Rectifiers* (2015), biases at 0. The paper
    does not mention batch normalization in the head: without it, VGG16 with He initialization does
    not train at the paper's learning rate of 0.1, because most hidden units die in the first steps
    (our reading of f1: a linear layer with batch normalization).

    Args:
        in_features: C, width of the backbone's features.
        hidden_features: D, width of the hidden layer.
        num_classes: K.
        attention: whether the head has channel attention; nothing else changes.
        reduction: of :class:`ChannelAttention`.
        unit_classifier: use a classification layer without bias whose rows have unit length, so
            that a logit is |features| cos(angle to the row), as losses on angles need it.
            ``Output.classifier_weight`` is then the unit rows.
        head_norm: ``"batch"`` for batch normalization of the hidden layer, before attention, or
            ``"none"``. The hidden layer has a bias only with ``"none"``.
        activation: ``"relu"``, or ``"identity"`` for features that are the hidden layer's output,
            as in Figure 3 of the paper.
        classifier_bias: whether the classification layer has a bias. Virtual Softmax needs none.

    Raises:
        InputError: an argument out of range.
    """

    def __init__(
        self,
        in_features: int,
        hidden_features: int,
        num_classes: int,
        attention: bool = True,
        reduction: int = 16,
        unit_classifier: bool = False,
        head_norm: HeadNorm = "batch",
        activation: Activation = "relu",
        classifier_bias: bool = True,
    ) -> None:
        super().__init__()
        require_positive_integer("in_features", in_features)
        require_positive_integer("hidden_features", hidden_features)
        require_positive_integer("num_classes", num_classes)
        require_boolean("attention", attention)
        require_boolean("unit_classifier", unit_classifier)
        require_choice("head_norm", head_norm, ("batch", "none"))
        require_choice("activation", activation, ("relu", "identity"))
        self.hidden = nn.Linear(in_features, hidden_features, bias=head_norm == "none")
        self.norm = nn.BatchNorm1d(hidden_features) if head_norm == "batch" else None
        self.attention = (
            ChannelAttention(in_features, hidden_features, reduction) if attention else None
        )
        self.activation: Activation = activation
        self.unit_classifier = unit_classifier
        self.classify = nn.Linear(hidden_features, num_classes)
        if unit_classifier or not classifier_bias:  # removed late: the random draws stay equal
            self.classify.register_parameter("bias", None)
        he_initialize(self)

    def forward(self, features: Tensor) -> Output:
        """Computes logits, features and attention.

        Args:
            features: (N, C, H, W) map or (N, C) vectors of the backbone.

        Raises:
            InputError: features of another shape, or one sample in training with batch
                normalization.
        """
        hidden = self._normalize(self.hidden(squeeze(features)))
        attention = None
        if self.attention is not None:
            attention = self.attention(features)
            hidden = hidden * attention
        if self.activation == "relu":
            hidden = hidden.relu()
        weight = self.classify.weight
        if self.unit_classifier:
            weight = F.normalize(weight)
        logits = F.linear(hidden, weight, self.classify.bias)
        return Output(logits=logits, features=hidden, attention=attention, classifier_weight=weight)

    def _normalize(self, hidden: Tensor) -> Tensor:
        if self.norm is None:
            return hidden
        # `len` of a tensor would fix the batch size of an exported graph.
        is_single = self.norm.training and hidden.shape[0] == 1
        if is_single and isinstance(self.norm, nn.BatchNorm1d):
            raise InputError(
                "a batch must have at least 2 samples in training with head_norm='batch', got 1: "
                "use a larger batch, drop the last incomplete batch, or use head_norm='none'"
            )
        normalized: Tensor = self.norm(hidden)
        return normalized
