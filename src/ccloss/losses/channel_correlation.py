"""The paper's loss."""

from collections.abc import Mapping, Sequence
from typing import final

import torch.distributed as dist
from torch import Tensor

from ccloss import functional
from ccloss.functional import Reduction
from ccloss.losses.base import Loss
from ccloss.options import check_options
from ccloss.output import Output


@final
class ChannelCorrelationLoss(Loss):
    r"""Cross-entropy plus the ratio of intra- to inter-class distances of channel attention.

    Song et al., *CC-Loss: Channel Correlation Loss for Image Classification* (2020), eq. 8
    (official formula)::

        L = CE(logits, labels) + weight * intra / (inter + eps)

    ``terms`` gives ``total``, ``ce``, ``intra``, ``inter`` and ``ratio``, the last three before the
    weight. A large weight can draw all attention vectors together; ``inter`` then falls below
    ``eps``. With ``weight=0`` the loss is cross-entropy alone: distances have no gradient, and
    calling the loss, rather than ``terms``, does not compute them.

    In training mode under ``torch.distributed`` the batch is the joined batch of all processes, as
    batch statistics are in ``SyncBatchNorm``: see ``group`` of
    :func:`ccloss.functional.class_distances`. Every process must then call the loss at every step.

    Args:
        weight: lambda, 0 or more. The paper uses 1.
        eps: positive constant beside the inter-class distance.
        reduction: ``"sum"`` over pairs, the paper's, or ``"mean"`` over pairs, with which a weight
            means the same for any number of classes and batch size.
        class_weights: see :class:`Loss`; distances are not weighted.
        label_smoothing: see :class:`Loss`; distances take the labels as they come.

    Raises:
        InputError: an argument out of range.
    """

    needs = frozenset({"attention"})
    formula = "CE + weight * intra / (inter + eps) of channel attention"
    source = "Song et al. 2020, eq. 8; official formula"

    def __init__(
        self,
        weight: float = 1.0,
        eps: float = 1e-6,
        reduction: Reduction = "sum",
        *,
        class_weights: Sequence[float] | None = None,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(class_weights, label_smoothing)
        check_options("cc", weight=weight, eps=eps, reduction=reduction)
        self.weight = weight
        self.eps = eps
        self.reduction: Reduction = reduction

    def forward(self, output: Output, labels: Tensor) -> Tensor:
        if self.weight == 0:
            self.check(output, labels)
            return self.cross_entropy(output.logits, labels)
        return super().forward(output, labels)

    def terms(self, output: Output, labels: Tensor) -> dict[str, Tensor]:
        self.check(output, labels)
        assert output.attention is not None  # `needs` says so
        attention = output.attention if self.weight else output.attention.detach()
        intra, inter, ratio = functional.correlation_terms(
            attention,
            labels,
            self.eps,
            self.reduction,
            num_classes=output.logits.shape[1],
            group=self._group(),
        )
        ce = self.cross_entropy(output.logits, labels)
        total = ce + self.weight * ratio
        return {"total": total, "ce": ce, "intra": intra, "inter": inter, "ratio": ratio}

    def diagnose(self, mean_terms: Mapping[str, float]) -> str | None:
        """Warns if attention has collapsed: the inter-class distance is below ``eps``."""
        if mean_terms["inter"] >= self.eps:
            return None
        return (
            f"attention has collapsed: the mean inter-class distance of an epoch is below eps "
            f"({self.eps:g}); try a lower loss weight"
        )

    def extra_repr(self) -> str:
        return f"weight={self.weight}, eps={self.eps}, reduction={self.reduction!r}"

    def _group(self) -> dist.ProcessGroup | None:
        joined = self.training and dist.is_available() and dist.is_initialized()
        return dist.group.WORLD if joined and dist.get_world_size() > 1 else None
