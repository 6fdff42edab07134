"""Networks: a backbone and a head with channel attention."""

from ccloss.models.attention import ChannelAttention
from ccloss.models.classifier import Classifier, build_model
from ccloss.models.heads import ClassifierHead

__all__ = ["ChannelAttention", "Classifier", "ClassifierHead", "build_model"]
