"""The release of PyTorch, for tests of features that the oldest supported one does not have."""

import torch

TORCH = tuple(int(part) for part in torch.__version__.split(".")[:2])
