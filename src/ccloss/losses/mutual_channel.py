"""Mutual-channel loss."""

from collections.abc import Iterator, Sequence
from typing import final

import torch
from torch import Tensor

from ccloss.errors import InputError
from ccloss.losses.base import Loss, full_precision
from ccloss.options import check_options
from ccloss.output import Output


@final
class MutualChannelLoss(Loss):
    r"""Cross-entropy, and channels of the last feature map that belong to one class each.

    Chang et al., *The Devil is in the Channels: Mutual-Channel Loss for Fine-Grained Image
    Classification* (2020) (official formula; groups of unequal size are our reading)::

        L     = CE(logits, labels) + alpha L_dis + beta L_div
        L_dis = CE(mean over space of max over the group of mask * map, labels)
        L_div = 1 - mean over samples and classes of
                    1/xi sum over space of max over the group of (softmax over space of map)

    The C channels are dealt to the K classes in order, xi = C // K or one more each, the smaller
    groups first. The mask keeps ceil(2/3 xi) channels of each group, drawn anew at each call in
    training mode, for the whole batch, from torch's own generator of the device; in evaluation mode
    all channels are kept. L_div is 1 - 1/xi where the maps of a group agree, and falls to 0 as they
    look at different places; groups of one channel have 0.

    ``terms`` gives ``total``, ``ce``, ``dis`` and ``div``, the last two before alpha and beta.

    Args:
        alpha: of L_dis, 0 or more; the paper's 1.5.
        beta: of L_div, 0 or more; the paper's 20.
        class_weights: see :class:`Loss`; they weight CE and L_dis.
        label_smoothing: see :class:`Loss`; in CE and L_dis.

    Raises:
        InputError: an argument out of range.
    """

    needs = frozenset({"feature_map"})
    formula = "CE + alpha L_dis + beta L_div on groups of channels, one a class"
    source = "Chang et al. 2020; official formula (groups of unequal size: our reading)"

    def __init__(
        self,
        alpha: float = 1.5,
        beta: float = 20.0,
        *,
        class_weights: Sequence[float] | None = None,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(class_weights, label_smoothing)
        check_options("mc", alpha=alpha, beta=beta)
        self.alpha = alpha
        self.beta = beta

    def check(self, output: Output, labels: Tensor) -> None:
        super().check(output, labels)
        assert output.feature_map is not None  # `needs` says so
        shape, classes = tuple(output.feature_map.shape), output.logits.shape[1]
        if len(shape) != 4 or shape[0] != len(output.logits):
            raise InputError(f"output.feature_map must be (N, C, H, W), got {shape}")
        if shape[2] * shape[3] == 1:
            raise InputError(
                f"output.feature_map is 1x1, {shape}, and MutualChannelLoss compares places in it: "
                "use larger images or a backbone that keeps a larger map"
            )
        if shape[1] < classes:
            raise InputError(
                f"output.feature_map has {shape[1]} channels for {classes} classes, and "
                "MutualChannelLoss gives each class its own: use a wider backbone"
            )

    def terms(self, output: Output, labels: Tensor) -> dict[str, Tensor]:
        self.check(output, labels)
        assert output.feature_map is not None
        ce = self.cross_entropy(output.logits, labels)
        maps = full_precision(output.feature_map).flatten(2)  # [N, C, H W]
        soft = maps.softmax(2)
        scores, coverage = [], []
        for first, groups, size in _groups(maps.shape[1], output.logits.shape[1]):
            shape = (len(maps), groups, size, maps.shape[2])
            channels = slice(first, first + groups * size)
            own = maps[:, channels].reshape(shape)
            if self.training:
                own = own * _mask(groups, size, own)
            scores.append(own.amax(2).mean(2))
            coverage.append(soft[:, channels].reshape(shape).amax(2).sum(2) / size)
        dis = self.cross_entropy(torch.cat(scores, 1), labels)
        div = 1 - torch.cat(coverage, 1).mean()
        return {
            "total": ce + self.alpha * dis + self.beta * div,
            "ce": ce,
            "dis": dis,
            "div": div,
        }

    def extra_repr(self) -> str:
        return f"alpha={self.alpha}, beta={self.beta}"


def _groups(channels: int, classes: int) -> Iterator[tuple[int, int, int]]:
    """(first channel, groups, channels a group) of the smaller groups, then of the larger."""
    size, larger = divmod(channels, classes)
    smaller = classes - larger
    yield 0, smaller, size
    if larger:
        yield smaller * size, larger, size + 1


def _mask(groups: int, size: int, like: Tensor) -> Tensor:
    """(groups, size, 1) ones and zeros, ceil(2/3 size) ones in each group."""
    kept = -(-2 * size // 3)
    order = torch.rand(groups, size, device=like.device).argsort(1)
    return (order < kept)[..., None].to(like.dtype)
