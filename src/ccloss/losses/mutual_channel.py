"""Mutual-channel loss."""

from collections.abc import Iterator
from typing import final

import torch
from torch import Tensor

from ccloss.errors import InputError
from ccloss.losses.base import ClassWeights, Loss, full_precision, mean_over_samples
from ccloss.output import Output
from ccloss.validation import require_nonnegative


@final
class MutualChannelLoss(Loss):
    r"""Cross-entropy plus terms on the last feature map, with a group of channels for each class.

    Chang et al., *The Devil is in the Channels: Mutual-Channel Loss for Fine-Grained Image
    Classification* (2020) (official formula; groups of unequal size are our reading)::

        L     = CE(logits, labels) + alpha L_dis + beta L_div
        L_dis = CE(mean over space of max over the group of mask * map, labels)
        L_div = 1 - mean over samples and classes of
                    1/xi sum over space of max over the group of (softmax over space of map)

    The C channels are assigned to the K classes in order, xi = C // K or C // K + 1 to each, the
    smaller groups first. The mask keeps ceil(2/3 xi) random channels of each group. It is drawn at
    each call in training mode, for the whole batch, from torch's default generator of the device;
    in evaluation mode all channels are kept. L_div is 1 - 1/xi for equal maps in a group and 0 for
    maps that are concentrated at different positions or groups of one channel.

    :meth:`terms` gives ``total``, ``ce``, ``dis`` and ``div``, the last two before alpha and beta.

    Args:
        alpha: weight of L_dis, a number of at least 0; 1.5 in the paper.
        beta: weight of L_div, a number of at least 0; 20 in the paper.
        class_weights: see :class:`Loss`; used in CE and L_dis.
        label_smoothing: see :class:`Loss`; used in CE and L_dis.

    Raises:
        InputError: an argument out of range.
    """

    needs = frozenset({"feature_map"})
    formula = "CE + alpha L_dis + beta L_div, a group of channels for each class"
    source = "Chang et al. 2020; official formula (groups of unequal size: our reading)"

    def __init__(
        self,
        alpha: float = 1.5,
        beta: float = 20.0,
        *,
        class_weights: ClassWeights | None = None,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(class_weights, label_smoothing)
        require_nonnegative("alpha", alpha)
        require_nonnegative("beta", beta)
        self.alpha = alpha
        self.beta = beta

    def check(self, output: Output, labels: Tensor) -> None:
        super().check(output, labels)
        assert output.feature_map is not None  # `needs` requires it
        shape, classes = tuple(output.feature_map.shape), output.logits.shape[1]
        if shape[2] * shape[3] == 1:
            raise InputError(
                f"output.feature_map must have more than one position for MutualChannelLoss, got "
                f"{shape}: use larger images or another backbone"
            )
        if shape[1] < classes:
            raise InputError(
                f"output.feature_map must have at least one channel for each of {classes} classes "
                f"for MutualChannelLoss, got {shape[1]} channels: use a wider backbone"
            )

    def compute(self, output: Output, labels: Tensor) -> dict[str, Tensor]:
        assert output.feature_map is not None
        ce = self.cross_entropy(output.logits, labels)
        maps = full_precision(output.feature_map).flatten(2)  # [N, C, H W]
        soft = maps.softmax(2)
        scores, coverage = [], []
        for first, groups, size in _groups(maps.shape[1], output.logits.shape[1]):
            shape = (len(maps), groups, size, maps.shape[2])
            channels = slice(first, first + groups * size)
            grouped = maps[:, channels].reshape(shape)
            if self.training:
                grouped = grouped * _mask(groups, size, grouped)
            scores.append(grouped.amax(2).mean(2))
            coverage.append(soft[:, channels].reshape(shape).amax(2).sum(2) / size)
        dis = self.cross_entropy(torch.cat(scores, 1), labels)
        div = mean_over_samples(1 - torch.cat(coverage, 1).mean(1), labels)
        return {
            "total": ce + self.alpha * dis + self.beta * div,
            "ce": ce,
            "dis": dis,
            "div": div,
        }

    def extra_repr(self) -> str:
        return f"alpha={self.alpha}, beta={self.beta}"


def _groups(channels: int, classes: int) -> Iterator[tuple[int, int, int]]:
    """(first channel, number of groups, channels in a group) of the smaller and larger groups."""
    size, larger = divmod(channels, classes)
    smaller = classes - larger
    yield 0, smaller, size
    if larger:
        yield smaller * size, larger, size + 1


def _mask(groups: int, size: int, like: Tensor) -> Tensor:
    """Random mask (groups, size, 1) with ceil(2/3 size) ones in each group, else zeros."""
    kept = -(-2 * size // 3)
    order = torch.rand(groups, size, device=like.device).argsort(1)
    return (order < kept)[..., None].to(like.dtype)
