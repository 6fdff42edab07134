"""Batches for training and evaluation, from memory or decoded by worker processes.

``batch_size`` counts the images of all processes. Each process gets its part of every batch, so a
run on several devices uses the same batches as a run on one device.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple, Protocol, final

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Sampler
from torch.utils.data import Dataset as TorchDataset

from ccloss.data.augment import (
    CLASS_ORDER,
    FLIP,
    LEFT,
    ORDER,
    TOP,
    TRANSFORM,
    augment_one,
    center_crop,
    crop_offsets,
    random_crop,
    random_flip,
    uniforms,
)
from ccloss.data.images import ImageSet, MemoryImages
from ccloss.data.transforms import NO_TRANSFORMS, Transforms
from ccloss.errors import InputError

MAX_WORKERS = 8
_MAX_LISTED = 5  # classes that one message names


class Batch(NamedTuple):
    """n images of one process.

    Attributes:
        index: (n,) int64 on the CPU, the indices of the images in their set.
        images: (n, C, image_size, image_size) uint8 on the device.
        labels: (n,) int64 on the device.
    """

    index: Tensor  # type: ignore[assignment]  # hides tuple.index, which a batch does not use
    images: Tensor
    labels: Tensor


class EpochPlan(NamedTuple):
    """Which images each training batch of an epoch has in this process, and how they are changed.

    Attributes:
        index: (S, n) int64 on the device, the indices of the images of S batches.
        augmentation: (S, n, 3) int64 on the device: vertical and horizontal crop offset, and 1 for
            a flip.
    """

    index: Tensor  # type: ignore[assignment]  # hides tuple.index, which a plan does not use
    augmentation: Tensor


class Loader(Protocol):
    """Batches of an image set, epoch by epoch, in any order of epochs."""

    def __len__(self) -> int:
        """Number of batches per epoch in this process."""

    def epoch(self, number: int) -> Iterator[Batch]:
        """The batches of epoch ``number``, the same ones each time.

        Raises:
            InputError: An image is corrupt or truncated. The message names its file or row.
        """


def train_loader(
    images: ImageSet,
    *,
    batch_size: int,
    seed: int,
    device: torch.device | str,
    image_size: int,
    padding: int = 0,
    flip: float = 0.0,
    rank: int = 0,
    world_size: int = 1,
    workers: int | None = None,
    samples_per_class: int | None = None,
    class_balanced: bool = False,
    transforms: Transforms = NO_TRANSFORMS,
) -> Loader:
    """Shuffled, augmented batches of equal size.

    The order, crops and flips of an epoch depend on (seed, epoch, sample) only. The images that
    remain after the last full batch are dropped in that epoch, because batch normalization and
    losses over pairs depend on the batch size.

    With ``samples_per_class`` M a batch of B images holds M images of each of B / M classes, and an
    epoch has the same number of batches. The classes are drawn in successive random permutations:
    within an epoch the numbers of uses of two classes differ by at most one. So are the images of
    each class: an image is used again only after all others of its class, and never twice in one
    batch. An epoch therefore uses more images of small classes and fewer of large classes than they
    have. An image that occurs twice in an epoch is augmented in the same way. Each process gets
    all images of its classes if B / M is divisible by the number of processes.

    With ``class_balanced`` each image belongs to the next class of successive random permutations:
    each class is used equally often, however many images it has.

    Args:
        images: The training images. In memory they must be ``image_size`` pixels square.
        batch_size: Images per batch over all processes.
        seed: Seed of the run.
        device: Where the batches go. Images in memory are moved there once.
        image_size: Height and width of a batch in pixels.
        padding: Pixels of zeros on every side before the random crop.
        flip: Probability of a horizontal flip.
        rank: Number of this process, from 0.
        world_size: Number of processes.
        workers: Processes that decode images that are not in memory. ``None``: one for each CPU
            except one, at most 8. 0 decodes in this process.
        samples_per_class: Images of each class in a batch over all processes, for losses over
            pairs; a divisor of ``batch_size``. ``None``: batches of any images.
        class_balanced: Whether each class is used equally often in an epoch.
        transforms: Further transforms, which workers apply to each image.

    Raises:
        InputError: An argument is out of range; the batch is not divisible by the number of
            processes or by ``samples_per_class``; there are fewer images or classes than one batch
            needs; or a class has fewer than ``samples_per_class`` images.
    """
    _check_arguments(batch_size, rank, world_size, workers)
    if padding < 0 or not 0 <= flip <= 1:
        raise InputError(f"padding must be at least 0 and flip in [0, 1], got {padding} and {flip}")
    if batch_size % world_size:
        raise InputError(f"batch_size {batch_size} must be divisible by the {world_size} processes")
    if len(images) < batch_size:
        raise InputError(f"batch_size {batch_size} is more than the {len(images)} images; lower it")
    order = _training_order(images.labels, batch_size, seed, samples_per_class, class_balanced)
    plan = _Plan(len(images), batch_size, rank, world_size, order)
    crop = _Crop(image_size, seed, padding, flip, transforms)
    return _loader(images, plan, crop, device, workers)


def eval_loader(
    images: ImageSet,
    *,
    batch_size: int,
    device: torch.device | str,
    image_size: int,
    rank: int = 0,
    world_size: int = 1,
    workers: int | None = None,
) -> Loader:
    """Every image once over all processes, in order and without augmentation.

    Images that are not in memory are cropped at their center. The last batch may be smaller, and
    no image is repeated to fill it. Processes may therefore have different numbers of batches:
    gather the results after the loop. All epochs are equal. Arguments as for :func:`train_loader`.
    """
    _check_arguments(batch_size, rank, world_size, workers)
    plan = _Plan(len(images), batch_size, rank, world_size, order=None)
    return _loader(images, plan, _Crop(image_size, None, 0, 0.0), device, workers)


def _check_arguments(batch_size: int, rank: int, world_size: int, workers: int | None) -> None:
    if batch_size < 1:
        raise InputError(f"batch_size must be at least 1, got {batch_size}")
    if not 0 <= rank < world_size:
        raise InputError(f"rank must be from 0 to world_size - 1, got {rank} of {world_size}")
    if workers is not None and workers < 0:
        raise InputError(f"workers must be at least 0, got {workers}")


def _check_classes(labels: Tensor, batch_size: int, samples: int) -> None:
    if samples < 1:
        raise InputError(f"samples_per_class must be at least 1, got {samples}")
    if batch_size % samples:
        raise InputError(
            f"batch_size {batch_size} must be divisible by samples_per_class {samples}"
        )
    found, counts = torch.unique(labels, return_counts=True)
    pairs = zip(found.tolist(), counts.tolist(), strict=True)
    small = [f"class {label} has {count}" for label, count in pairs if count < samples]
    if small:
        more = f", and {len(small) - _MAX_LISTED} more" if len(small) > _MAX_LISTED else ""
        raise InputError(
            f"samples_per_class {samples} is more than the images of {len(small)} of "
            f"{len(found)} classes ({', '.join(small[:_MAX_LISTED])}{more}); lower it, or remove "
            "these classes"
        )
    if batch_size // samples > len(found):
        raise InputError(
            f"batch_size {batch_size} with samples_per_class {samples} needs "
            f"{batch_size // samples} classes, but the images have {len(found)}; lower batch_size "
            "or raise samples_per_class"
        )


def _loader(
    images: ImageSet,
    plan: "_Plan",
    crop: "_Crop",
    device: torch.device | str,
    workers: int | None,
) -> Loader:
    device = torch.device(device)
    if isinstance(images, MemoryImages) and not crop.transforms:
        return MemoryLoader(images, plan, crop, device)
    return _WorkerLoader(images, plan, crop, device, workers)


# ---- The order of an epoch ---------------------------------------------------------------------

_Order = Callable[[int], Tensor]  # epoch -> (n,) int64 indices, its batches one after another


def _training_order(
    labels: Tensor,
    batch_size: int,
    seed: int,
    samples_per_class: int | None,
    class_balanced: bool,
) -> _Order:
    classes = torch.unique(labels, return_inverse=True)[1]  # (N,), from 0 without gaps
    if class_balanced:
        return partial(_class_balanced, classes, len(labels) // batch_size * batch_size, seed)
    if samples_per_class is None:
        return partial(_shuffled, len(labels), seed)
    _check_classes(labels, batch_size, samples_per_class)
    return partial(_by_class, classes, batch_size, seed, samples_per_class)


def _shuffled(count: int, seed: int, epoch: int) -> Tensor:
    uniform = uniforms(seed, epoch, torch.arange(count), ORDER + 1)[:, ORDER]
    return torch.argsort(uniform, stable=True)


def _by_class(classes: Tensor, batch_size: int, seed: int, samples: int, epoch: int) -> Tensor:
    """An order in which each batch holds ``samples`` images of each of its classes.

    Shuffled passes over the classes decide which ones each batch uses. Shuffled passes over the
    images of each class decide which ones are used each time.

    Args:
        classes: (N,) int64, the class of each image, from 0 without gaps.
        batch_size: B, a multiple of ``samples``.
        seed: Seed of the run.
        samples: Images of a class in a batch.
        epoch: Number of the epoch.

    Returns:
        (N // B * B,) int64.
    """
    batches, group = len(classes) // batch_size, batch_size // samples
    images = _chosen_by_class(classes, batches * group, group, samples, seed, epoch)
    # The first image of each class, then the second of each class, ...: each process then gets
    # all images of its classes if their number is divisible by the number of processes.
    return images.view(batches, group, samples).transpose(1, 2).flatten()


def _class_balanced(classes: Tensor, length: int, seed: int, epoch: int) -> Tensor:
    """An order in which each class is used equally often, to within one image.

    Args:
        classes: (N,) int64, the class of each image, from 0 without gaps.
        length: Number of images of an epoch.
        seed: Seed of the run.
        epoch: Number of the epoch.

    Returns:
        (length,) int64.
    """
    return _chosen_by_class(classes, length, 1, 1, seed, epoch).flatten()


def _chosen_by_class(
    classes: Tensor, uses: int, group: int, samples: int, seed: int, epoch: int
) -> Tensor:
    """Uses of classes in successive random permutations, and the images of each use.

    Args:
        classes: (N,) int64, the class of each image, from 0 without gaps.
        uses: Number of uses of classes, a multiple of ``group``.
        group: Consecutive uses of which no two are of the same class.
        samples: Images of a use.
        seed: Seed of the run.
        epoch: Number of the epoch.

    Returns:
        (uses, samples) int64.
    """
    count = int(classes.max()) + 1
    one_owner = torch.zeros(count, dtype=torch.int64)  # the classes are the items of one owner
    used = _shuffled_passes(one_owner, torch.tensor([uses]), group, seed, epoch, CLASS_ORDER)
    lengths = torch.bincount(used, minlength=count) * samples
    chosen = _shuffled_passes(classes, lengths, samples, seed, epoch, ORDER)
    images = torch.empty(uses, samples, dtype=torch.int64)
    images[torch.argsort(used, stable=True)] = chosen.view(-1, samples)
    return images


def _shuffled_passes(
    owners: Tensor, lengths: Tensor, group: int, seed: int, epoch: int, column: int
) -> Tensor:
    """For each owner its items in successive random permutations; no group has an item twice.

    The order of item i of n in pass p is decided by the random number of sample i + p n.

    Args:
        owners: (n,) int64, the owner of each item, from 0 without gaps.
        lengths: (owners,) int64, the lengths of the sequences, multiples of ``group``.
        group: g; each owner has at least that many items.
        seed: Seed of the run.
        epoch: Number of the epoch.
        column: Column of the random numbers.

    Returns:
        (sum of lengths,) int64 items, the sequences of all owners one after another.
    """
    counts = torch.bincount(owners, minlength=len(lengths))
    passes = (lengths + counts - 1) // counts
    repeats = passes[owners]
    items = torch.arange(len(owners)).repeat_interleave(repeats)
    number = torch.arange(len(items)) - (repeats.cumsum(0) - repeats)[items]  # pass of its owner
    uniform = uniforms(seed, epoch, items + number * len(owners), column + 1)[:, column]
    order = torch.argsort(uniform, stable=True)
    overall = (passes.cumsum(0) - passes)[owners[items]] + number  # pass, counted over all owners
    order = order[torch.argsort(overall[order], stable=True)]
    shuffled = iter(torch.split(items[order], counts.repeat_interleave(passes).tolist()))
    sequences: list[int] = []
    for length, count in zip(lengths.tolist(), passes.tolist(), strict=True):
        sequences += _joined([next(shuffled).tolist() for _ in range(count)], group)[:length]
    return torch.tensor(sequences)


def _joined(passes: list[list[int]], group: int) -> list[int]:
    """Joins passes so that no ``group`` consecutive items, counted from the start, repeat one.

    A pass may end within a group. Those of the first ``group`` items of the next pass that the
    group has already are moved behind the others, of which there are enough to fill the group.
    """
    sequence: list[int] = []
    for items in passes:
        open_group = set(sequence[len(sequence) // group * group :])
        sequence += sorted(items[:group], key=open_group.__contains__) + items[group:]
    return sequence


# ---- Batches and crops -------------------------------------------------------------------------


@dataclass(frozen=True)
class _Plan:
    """The images of each batch of an epoch in this process."""

    images: int
    batch_size: int  # over all processes
    rank: int
    world_size: int
    order: _Order | None  # None: evaluation, in order and with the last incomplete batch

    def __len__(self) -> int:
        full, rest = divmod(self.images, self.batch_size)
        batches = full if self.batch_size > self.rank else 0
        return batches + (self.order is None and rest > self.rank)

    def batches(self, epoch: int) -> list[Tensor]:
        """The indices, (n,) int64, of this process in each batch."""
        if self.order is None:
            batches = torch.split(torch.arange(self.images), self.batch_size)
        else:
            full = self.images // self.batch_size
            batches = torch.split(self.order(epoch), self.batch_size)[:full]
        own = [batch[self.rank :: self.world_size] for batch in batches]
        return [batch for batch in own if len(batch)]


@dataclass(frozen=True)
class _Crop:
    """How images are cropped: at random, or at the center if ``seed`` is ``None``."""

    image_size: int
    seed: int | None
    padding: int
    flip: float
    transforms: Transforms = NO_TRANSFORMS

    def random(self, epoch: int, index: Tensor) -> Tensor | None:
        """(n, columns) float64, or ``None`` for evaluation."""
        columns = TRANSFORM + 1 if self.transforms else FLIP + 1
        return None if self.seed is None else uniforms(self.seed, epoch, index, columns)

    def apply(self, image: Tensor, uniform: Tensor | None) -> Tensor:
        """(C, H, W) of any size -> (C, image_size, image_size)."""
        if uniform is None:
            return center_crop(image, self.image_size)
        augment = self.transforms.apply if self.transforms else augment_one
        return augment(image, uniform, self.image_size, self.padding, self.flip)


# ---- Images in memory --------------------------------------------------------------------------


@final
class MemoryLoader:
    """Batches selected from tensors on the device."""

    def __init__(
        self, images: MemoryImages, plan: _Plan, crop: _Crop, device: torch.device
    ) -> None:
        height, width = images.pixels.shape[2:]
        if (height, width) != (crop.image_size, crop.image_size):
            raise InputError(
                f"image_size {crop.image_size} differs from the {height}x{width} images in memory; "
                "load them at that size"
            )
        self._pixels = images.pixels.to(device)
        self._labels = images.labels.to(device)
        self._plan = plan
        self._crop = crop

    def __len__(self) -> int:
        return len(self._plan)

    def epoch(self, number: int) -> Iterator[Batch]:
        batches = self._plan.batches(number)
        if not batches:
            return
        sizes = [len(batch) for batch in batches]
        # The random numbers of the whole epoch are computed together: a batch then costs only a
        # few indexing operations.
        index = torch.cat(batches)
        augmentation = self._augmentation(number, index)
        on_device = torch.split(index.to(self._pixels.device), sizes)
        rows: Sequence[Tensor | None] = (
            [None] * len(sizes) if augmentation is None else torch.split(augmentation, sizes)
        )
        for batch, position, row in zip(batches, on_device, rows, strict=True):
            yield Batch(batch, *self.select(position, row))

    def plan(self, number: int) -> EpochPlan:
        """The batches that :meth:`epoch` yields, as numbers. Only for a training loader."""
        index = torch.stack(self._plan.batches(number))
        augmentation = self._augmentation(number, index.flatten())
        assert augmentation is not None  # evaluation has no plan
        return EpochPlan(index.to(self._pixels.device), augmentation.view(*index.shape, 3))

    def select(self, index: Tensor, augmentation: Tensor | None) -> tuple[Tensor, Tensor]:
        """Images and labels of a batch. It does not wait for the device.

        Args:
            index: (n,) int64 on the device.
            augmentation: (n, 3), a row of :attr:`EpochPlan.augmentation`; ``None``: unchanged.
        """
        images = self._pixels[index]
        if augmentation is not None:
            images = self._augmented(images, augmentation)
        return images, self._labels[index]

    def _augmentation(self, number: int, index: Tensor) -> Tensor | None:
        """(n, 3) int64 on the device, see :class:`EpochPlan`; ``None`` for evaluation."""
        uniform = self._crop.random(number, index)
        if uniform is None:
            return None
        positions = 2 * self._crop.padding + 1
        top, left = (crop_offsets(uniform[:, column], positions) for column in (TOP, LEFT))
        flip = (uniform[:, FLIP] < self._crop.flip).long()
        return torch.stack([top, left, flip], dim=1).to(self._pixels.device)

    def _augmented(self, images: Tensor, augmentation: Tensor) -> Tensor:
        top, left, flip = augmentation.unbind(1)
        if self._crop.padding:
            images = random_crop(images, top, left, self._crop.padding)
        return random_flip(images, flip.bool()) if self._crop.flip else images


# ---- Images decoded by workers -----------------------------------------------------------------


class _WorkerLoader:
    """Batches that worker processes decode in advance."""

    def __init__(
        self,
        images: ImageSet,
        plan: _Plan,
        crop: _Crop,
        device: torch.device,
        workers: int | None,
    ) -> None:
        workers = default_workers(plan.world_size) if workers is None else workers
        self._plan = plan
        self._device = device
        self._keys = _Keys(plan)
        self._loader: DataLoader[Batch | InputError] = DataLoader(
            _Decoder(images, crop),
            batch_size=None,  # a key is a batch
            sampler=self._keys,
            num_workers=workers,
            persistent_workers=workers > 0,
            pin_memory=device.type == "cuda",
            generator=torch.Generator(),  # otherwise each epoch would advance the global generator
        )

    def __len__(self) -> int:
        return len(self._plan)

    def epoch(self, number: int) -> Iterator[Batch]:
        self._keys.epoch = number
        for batch in self._loader:
            if isinstance(batch, InputError):
                raise batch
            index, images, labels = batch
            yield Batch(
                index,
                images.to(self._device, non_blocking=True),
                labels.to(self._device, non_blocking=True),
            )


class _Keys(Sampler[tuple[int, Tensor]]):
    """The batches of an epoch as keys (epoch, indices): all that a worker needs to know."""

    def __init__(self, plan: _Plan) -> None:
        self.plan = plan
        self.epoch = 0

    def __len__(self) -> int:
        return len(self.plan)

    def __iter__(self) -> Iterator[tuple[int, Tensor]]:
        epoch = self.epoch
        for indices in self.plan.batches(epoch):
            yield epoch, indices


class _Decoder(TorchDataset[Batch | InputError]):
    """Decodes, crops and flips a batch."""

    def __init__(self, images: ImageSet, crop: _Crop) -> None:
        self.images = images
        self.crop = crop

    def __getitem__(self, key: tuple[int, Tensor]) -> Batch | InputError:
        # An InputError is returned and raised by the main process: a DataLoader would add the
        # traceback of the worker to its message.
        epoch, index = key
        try:
            return Batch(index, self._decoded(epoch, index), self.images.labels[index])
        except InputError as error:
            return error

    def _decoded(self, epoch: int, index: Tensor) -> Tensor:
        uniform = self.crop.random(epoch, index)
        rows = [None] * len(index) if uniform is None else uniform
        return torch.stack([self._one(int(i), row) for i, row in zip(index, rows, strict=True)])

    def _one(self, index: int, uniform: Tensor | None) -> Tensor:
        image = self.images.image(index)
        if min(image.shape[1:]) < self.crop.image_size:
            raise InputError(
                f"{self.images.location(index)}: the image is smaller than image_size "
                f"{self.crop.image_size}; load with a larger resize"
            )
        return self.crop.apply(image, uniform)


def default_workers(processes: int) -> int:
    """The cores of one of the processes of this machine, less one for training; 8 at most."""
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    return max(0, min(MAX_WORKERS, cores // processes - 1))
