"""Digits of scikit-learn and a small network, shared by the examples."""

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.utils.data import TensorDataset

import ccloss


def load() -> tuple[TensorDataset, TensorDataset]:
    """1,500 training and 297 test images (1, 8, 8) in [0, 1] with their labels."""
    digits = load_digits()
    images = torch.tensor(digits.images, dtype=torch.float32)[:, None] / 16
    labels = torch.tensor(digits.target)
    return TensorDataset(images[:1500], labels[:1500]), TensorDataset(images[1500:], labels[1500:])


def make_model() -> nn.Sequential:
    """Two convolutions and the head of the paper; the forward pass returns ``ccloss.Output``."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(32, 64, 3),
        nn.ReLU(),
        nn.Flatten(),
        ccloss.ClassifierHead(in_features=256, hidden_features=64, num_classes=10),
    )


@torch.no_grad()
def accuracy(model: nn.Module, data: TensorDataset) -> float:
    """Share of correct predictions."""
    images, labels = data.tensors
    model.eval()
    logits: Tensor = model(images).logits
    model.train()
    return float((logits.argmax(1) == labels).float().mean())
