"""Networks: a backbone and a head with channel attention."""

from ccloss.models.attach import AttachedClassifier, attach
from ccloss.models.attention import ChannelAttention
from ccloss.models.classifier import Classifier, build_model
from ccloss.models.heads import ClassifierHead
from ccloss.models.tap import Taps, tap

__all__ = [
    "AttachedClassifier",
    "ChannelAttention",
    "Classifier",
    "ClassifierHead",
    "Taps",
    "attach",
    "build_model",
    "tap",
]
