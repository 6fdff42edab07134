"""The paper's loss, and a variant that does not merge classes."""

from abc import abstractmethod
from collections.abc import Mapping
from typing import ClassVar, Literal, final

import torch
import torch.distributed as dist
from torch import Tensor

from ccloss import functional
from ccloss.errors import InputError
from ccloss.functional import Reduction
from ccloss.losses.base import ClassWeights, Loss, check_field
from ccloss.output import Output
from ccloss.validation import require_choice, require_nonnegative, require_positive

Group = dist.ProcessGroup | Literal["default"] | None


class AttentionLoss(Loss):
    """Cross-entropy plus ``weight`` times a term on channel-attention vectors.

    With several attention tensors in the output (see :func:`ccloss.tap`) the term is the mean over
    the tensors.
    """

    needs = frozenset({"attention"})
    main_term: ClassVar[str]
    """Name of the term that the weight multiplies."""

    def __init__(
        self,
        weight: float = 1.0,
        eps: float = 1e-6,
        *,
        process_group: Group = "default",
        class_weights: ClassWeights | None = None,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(class_weights, label_smoothing)
        require_nonnegative("weight", weight)
        require_positive("eps", eps)
        if isinstance(process_group, str):
            require_choice("process_group", process_group, ("default",))
        self.weight = weight
        self.eps = eps
        self.process_group = process_group

    def forward(self, output: Output, labels: Tensor) -> Tensor:
        if self.weight == 0:  # the term has no effect, so it is not computed
            self.check(output, labels)
            return self.cross_entropy(output.logits, labels)
        return super().forward(output, labels)

    def compute(self, output: Output, labels: Tensor) -> dict[str, Tensor]:
        classes = output.logits.shape[1]
        each = [
            self.attention_terms(vectors if self.weight else vectors.detach(), labels, classes)
            for vectors in _attention_tensors(output)
        ]
        terms = dict(each[0])
        if len(each) > 1:
            for name in each[0]:
                values = [one[name] for one in each]
                terms[name] = torch.stack(values).mean()
                terms |= {f"{name}_{i}": value for i, value in enumerate(values, start=1)}
        ce = self.cross_entropy(output.logits, labels)
        return {"total": ce + self.weight * terms[self.main_term], "ce": ce, **terms}

    def check(self, output: Output, labels: Tensor) -> None:
        super().check(output, labels)
        tensors = _attention_tensors(output)
        if not tensors:
            raise InputError("output.attention has no tensor; pass at least one")
        for vectors in tensors:
            check_field("attention", vectors, "(N, D)", output.logits)

    @abstractmethod
    def attention_terms(
        self, attention: Tensor, labels: Tensor, num_classes: int
    ) -> dict[str, Tensor]:
        """Terms of one (N, D) attention tensor, before the weight."""

    def _group(self) -> dist.ProcessGroup | None:
        """The processes whose batches are joined: in training mode only, as in SyncBatchNorm."""
        if not self.training or self.process_group is None:
            return None
        if self.process_group != "default":
            return self.process_group
        joined = dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
        return dist.group.WORLD if joined else None


@final
class ChannelCorrelationLoss(AttentionLoss):
    r"""Cross-entropy plus the ratio of intra- to inter-class distances of channel attention.

    Song et al., *CC-Loss: Channel Correlation Loss for Image Classification* (2020), eq. 8
    (official formula)::

        L = CE(logits, labels) + weight * intra / (inter + eps)

    ``terms`` gives ``total``, ``ce``, ``intra``, ``inter`` and ``ratio``, the last three before the
    weight. With several attention tensors these three are means, and ``ratio_1``, ``ratio_2`` ...
    are the values of each tensor. A large weight can contract all attention vectors to a point;
    ``inter`` then falls below ``eps``. With ``weight=0`` the loss is cross-entropy alone, and the
    distances in ``terms`` have no gradient.

    In training mode under ``torch.distributed`` the batches of all processes form one batch, as
    batch statistics do in ``torch.nn.SyncBatchNorm``. Every process must then call the loss at
    every step. See ``process_group`` in :func:`ccloss.functional.class_distances` for the gradient.
    With gradient accumulation the ratio is that of each micro-batch; pairs across micro-batches do
    not count.

    Args:
        weight: lambda, at least 0. The paper uses 1.
        eps: positive constant added to the inter-class distance.
        reduction: ``"sum"`` over pairs as in the paper, or ``"mean"`` over pairs, for which a
            weight has the same meaning for any number of classes and batch size.
        process_group: processes whose batches are joined: ``"default"`` for the default group, a
            group (for example the data-parallel group under tensor or pipeline parallelism), or
            ``None`` for the batch of each process alone.
        class_weights: see :class:`Loss`; distances are not weighted.
        label_smoothing: see :class:`Loss`; distances use the labels as passed.

    Raises:
        InputError: an argument out of range.
    """

    formula = "CE + weight * intra / (inter + eps) of channel attention"
    source = "Song et al. 2020, eq. 8; official formula"
    main_term = "ratio"

    def __init__(
        self,
        weight: float = 1.0,
        eps: float = 1e-6,
        reduction: Reduction = "sum",
        *,
        process_group: Group = "default",
        class_weights: ClassWeights | None = None,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__(
            weight,
            eps,
            process_group=process_group,
            class_weights=class_weights,
            label_smoothing=label_smoothing,
        )
        require_choice("reduction", reduction, ("sum", "mean"))
        self.reduction: Reduction = reduction

    def attention_terms(
        self, attention: Tensor, labels: Tensor, num_classes: int
    ) -> dict[str, Tensor]:
        return functional.correlation_terms(
            attention,
            labels,
            self.eps,
            self.reduction,
            num_classes=num_classes,
            process_group=self._group(),
        )._asdict()

    def diagnose(self, mean_terms: Mapping[str, float]) -> str | None:
        if mean_terms["inter"] >= self.eps:
            return None
        return (
            "attention has collapsed: the mean inter-class distance of an epoch is below eps "
            f"({self.eps:g}); reduce the loss weight"
        )

    def extra_repr(self) -> str:
        return f"weight={self.weight}, eps={self.eps}, reduction={self.reduction!r}"


@final
class ClassOverlapLoss(AttentionLoss):
    r"""Cross-entropy plus the mean overlap of the pairs of classes in channel attention.

    A variant of CC-Loss that does not merge classes (our variant, not the paper's). The ratio of
    the paper's loss can be small while many pairs of classes coincide; here each pair contributes
    a bounded term of its own::

        L = CE(logits, labels) + weight * mean_{k < l} 2 W / (2 W + |mu_k - mu_l|^2 + eps)

    with W the mean squared distance of a vector to its class mean. See
    :func:`ccloss.functional.class_overlap` for the weights of the mean and the gradient.

    ``terms`` gives ``total``, ``ce`` and ``overlap``, the last between 0 and 1 before the weight.
    Several attention tensors and processes are treated as in :class:`ChannelCorrelationLoss`.

    Args:
        weight: at least 0.
        eps: positive constant added to the distance of two classes.
        process_group: see :class:`ChannelCorrelationLoss`.
        class_weights: see :class:`Loss`; the overlap is not weighted.
        label_smoothing: see :class:`Loss`; the overlap uses the labels as passed.

    Raises:
        InputError: an argument out of range.
    """

    formula = "CE + weight * mean_{k<l} 2W / (2W + |mu_k - mu_l|^2 + eps) of channel attention"
    source = "our variant of Song et al. 2020"
    main_term = "overlap"

    def attention_terms(
        self, attention: Tensor, labels: Tensor, num_classes: int
    ) -> dict[str, Tensor]:
        overlap = functional.class_overlap(
            attention,
            labels,
            self.eps,
            num_classes=num_classes,
            process_group=self._group(),
        )
        return {"overlap": overlap}

    def extra_repr(self) -> str:
        return f"weight={self.weight}, eps={self.eps}"


def _attention_tensors(output: Output) -> tuple[Tensor, ...]:
    assert output.attention is not None  # `needs` names it
    return (output.attention,) if isinstance(output.attention, Tensor) else tuple(output.attention)
