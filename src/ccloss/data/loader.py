"""Batches for training and evaluation, from memory or decoded by worker processes.

``batch_size`` is the batch of all processes together. Each takes its share of every batch, so
that a run on several devices sees the batches of a run on one.
"""

import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple, Protocol

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Sampler
from torch.utils.data import Dataset as TorchDataset

from ccloss.data.augment import (
    FLIP,
    LEFT,
    ORDER,
    ROUND,
    TOP,
    augment_one,
    centre_crop,
    crop_offsets,
    draws,
    random_crop,
    random_flip,
)
from ccloss.data.images import ImageSet, MemoryImages
from ccloss.errors import InputError

MOST_WORKERS = 8
_MOST_NAMED = 5  # classes that one message names


class Batch(NamedTuple):
    """n images of one process.

    Attributes:
        index: (n,) int64 on the CPU, each image's index in its set.
        images: (n, C, image_size, image_size) uint8 on the device.
        labels: (n,) int64 on the device.
    """

    index: Tensor  # type: ignore[assignment]  # hides tuple.index, which a batch does not need
    images: Tensor
    labels: Tensor


class Loader(Protocol):
    """Batches of an image set, epoch by epoch, in any order of epochs."""

    def __len__(self) -> int:
        """Batches an epoch, in this process."""

    def epoch(self, number: int) -> Iterator[Batch]:
        """The batches of epoch ``number``, the same ones each time.

        Raises:
            InputError: an image is corrupt or truncated; names its file or row.
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
) -> Loader:
    """Shuffled, augmented batches, all of the same size.

    The order, crops and flips of an epoch depend on (seed, epoch, sample) alone. The images left
    over after the last whole batch are dropped for that epoch: batch normalisation and losses over
    pairs are not defined alike on a rest.

    With ``samples_per_class`` M a batch of B images holds M of each of B / M classes, and an epoch
    has as many batches as without. The classes come in shuffled rounds: within an epoch all are
    used equally often, up to one. Each class hands out its images in shuffled passes: none comes
    again before all its others came, nor twice in a batch. So an epoch takes more of small classes
    and less of large ones than they hold; an image that comes twice in it is augmented alike. A
    process gets whole classes if B / M divides by the processes.

    Args:
        images: the training images; in memory they must be ``image_size`` pixels square.
        batch_size: images a batch over all processes.
        seed: of the run.
        device: where the batches go; images in memory are moved there once.
        image_size: height and width of a batch in pixels.
        padding: pixels of zeros on every side before the random crop.
        flip: probability of a left-right flip.
        rank: this process, from 0.
        world_size: number of processes.
        workers: processes that decode images that are not in memory; ``None``: as many as the
            CPUs allow, at most 8. 0 decodes in this process. A script that uses workers starts
            them from below its ``if __name__ == "__main__":``, as Python's multiprocessing asks.
        samples_per_class: images of each class in a batch over all processes, for losses over
            pairs; a divisor of ``batch_size``. ``None``: as the shuffle has it.

    Raises:
        InputError: an argument out of range, a batch that does not divide by the processes or by
            ``samples_per_class``, fewer images than one batch, fewer classes than one batch, or a
            class with fewer than ``samples_per_class`` images.
    """
    _check_arguments(batch_size, rank, world_size, workers)
    if padding < 0 or not 0 <= flip <= 1:
        raise InputError(f"padding must be >= 0 and flip in [0, 1], got {padding} and {flip}")
    if batch_size % world_size:
        raise InputError(f"batch_size {batch_size} must divide by the {world_size} processes")
    if len(images) < batch_size:
        raise InputError(f"batch_size {batch_size} is more than the {len(images)} images; lower it")
    order = _training_order(images.labels, batch_size, seed, samples_per_class)
    plan = _Plan(len(images), batch_size, rank, world_size, order)
    return _loader(images, plan, _View(image_size, seed, padding, flip), device, workers)


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
    """Every image once over all processes, in order and unaugmented (large ones: centre crop).

    The last batch may be smaller and nothing is repeated to fill it, so that processes may have
    differing numbers of batches; gather the results after the loop, not within. Every epoch is the
    same. Arguments as for :func:`train_loader`.
    """
    _check_arguments(batch_size, rank, world_size, workers)
    plan = _Plan(len(images), batch_size, rank, world_size, order=None)
    return _loader(images, plan, _View(image_size, None, 0, 0.0), device, workers)


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
        raise InputError(f"batch_size {batch_size} must divide by samples_per_class {samples}")
    found, counts = torch.unique(labels, return_counts=True)
    pairs = zip(found.tolist(), counts.tolist(), strict=True)
    small = [f"class {label} has {count}" for label, count in pairs if count < samples]
    if small:
        more = f", and {len(small) - _MOST_NAMED} more" if len(small) > _MOST_NAMED else ""
        raise InputError(
            f"samples_per_class {samples} is more than the images of {len(small)} of "
            f"{len(found)} classes ({', '.join(small[:_MOST_NAMED])}{more}); lower it, or leave "
            "such classes out"
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
    view: "_View",
    device: torch.device | str,
    workers: int | None,
) -> Loader:
    device = torch.device(device)
    if isinstance(images, MemoryImages):
        return _MemoryLoader(images, plan, view, device)
    return _WorkerLoader(images, plan, view, device, workers)


# ---- The order of an epoch ---------------------------------------------------------------------

_Order = Callable[[int], Tensor]  # from the epoch: (n,) int64 indices, its batches end to end


def _training_order(
    labels: Tensor, batch_size: int, seed: int, samples_per_class: int | None
) -> _Order:
    if samples_per_class is None:
        return partial(_shuffled, len(labels), seed)
    _check_classes(labels, batch_size, samples_per_class)
    classes = torch.unique(labels, return_inverse=True)[1]  # (N,), from 0 without gaps
    return partial(_by_class, classes, batch_size, seed, samples_per_class)


def _shuffled(count: int, seed: int, epoch: int) -> Tensor:
    uniform = draws(seed, epoch, torch.arange(count), ORDER + 1)[:, ORDER]
    return torch.argsort(uniform, stable=True)


def _by_class(classes: Tensor, batch_size: int, seed: int, samples: int, epoch: int) -> Tensor:
    """An order in which each batch holds ``samples`` images of each of its classes.

    A walk through the classes says which ones each batch visits, and a walk through each class
    which of its images a visit takes.

    Args:
        classes: (N,) int64, each image's class, from 0 without gaps.
        batch_size: B, a multiple of ``samples``.
        seed: of the run.
        samples: images of a class in a batch.
        epoch: its number.

    Returns:
        (N // B * B,) int64.
    """
    batches, group = len(classes) // batch_size, batch_size // samples
    count = int(classes.max()) + 1
    everyone = torch.zeros(count, dtype=torch.int64)  # the classes are one walk's items
    visited = _walks(everyone, torch.tensor([batches * group]), group, seed, epoch, ROUND)
    visits = torch.bincount(visited, minlength=count)
    walked = _walks(classes, visits * samples, samples, seed, epoch, ORDER)
    taken = torch.empty(batches * group, samples, dtype=torch.int64)
    taken[torch.argsort(visited, stable=True)] = walked.view(-1, samples)
    # every class's first image, then every class's second, ...: a process's slice of the batch is
    # then whole classes where they divide by the processes
    return taken.view(batches, group, samples).transpose(1, 2).flatten()


def _walks(
    owners: Tensor, lengths: Tensor, group: int, seed: int, epoch: int, column: int
) -> Tensor:
    """For each owner a walk through its items in shuffled passes; no group holds an item twice.

    Item i of n draws its place in pass p as sample i + p n would.

    Args:
        owners: (n,) int64, each item's owner, from 0 without gaps.
        lengths: (owners,) int64, the steps of each walk, whole groups.
        group: g; each owner has at least that many items.
        seed: of the run.
        epoch: its number.
        column: of the draws.

    Returns:
        (sum of lengths,) int64 items, one owner's walk after the other's.
    """
    counts = torch.bincount(owners, minlength=len(lengths))
    passes = (lengths + counts - 1) // counts
    times = passes[owners]
    items = torch.arange(len(owners)).repeat_interleave(times)
    turn = torch.arange(len(items)) - (times.cumsum(0) - times)[items]
    uniform = draws(seed, epoch, items + turn * len(owners), column + 1)[:, column]
    places = torch.argsort(uniform, stable=True)
    which = (passes.cumsum(0) - passes)[owners[items]] + turn  # pass, counted over all owners
    places = places[torch.argsort(which[places], stable=True)]
    ordered = iter(torch.split(items[places], counts.repeat_interleave(passes).tolist()))
    walks: list[int] = []
    for length, number in zip(lengths.tolist(), passes.tolist(), strict=True):
        walks += _joined([next(ordered).tolist() for _ in range(number)], group)[:length]
    return torch.tensor(walks)


def _joined(passes: list[list[int]], group: int) -> list[int]:
    """The passes end to end, so that no ``group`` items cut from the start on repeat one.

    A pass may end within a group. Among the first ``group`` items of the next one, those already
    in it then step behind the others, of which there are enough to fill it.
    """
    walk: list[int] = []
    for items in passes:
        begun = set(walk[len(walk) // group * group :])
        walk += sorted(items[:group], key=begun.__contains__) + items[group:]
    return walk


# ---- Which images, seen how --------------------------------------------------------------------


@dataclass(frozen=True)
class _Plan:
    """Which images each batch of an epoch holds, for this process."""

    images: int
    batch_size: int  # over all processes
    rank: int
    world_size: int
    order: _Order | None  # None: evaluation, in order and with the last batch

    def __len__(self) -> int:
        whole, rest = divmod(self.images, self.batch_size)
        batches = whole if self.batch_size > self.rank else 0
        return batches + (self.order is None and rest > self.rank)

    def shares(self, epoch: int) -> list[Tensor]:
        """This process's indices, (n,) int64, of each batch."""
        if self.order is None:
            batches = torch.split(torch.arange(self.images), self.batch_size)
        else:
            whole = self.images // self.batch_size
            batches = torch.split(self.order(epoch), self.batch_size)[:whole]
        shares = [batch[self.rank :: self.world_size] for batch in batches]
        return [share for share in shares if len(share)]


@dataclass(frozen=True)
class _View:
    """How an image is cut to size: at random from the seed, or (seed ``None``) at its centre."""

    image_size: int
    seed: int | None
    padding: int
    flip: float

    def draws(self, epoch: int, index: Tensor) -> Tensor | None:
        """(n, 4) float64, or ``None`` for evaluation."""
        return None if self.seed is None else draws(self.seed, epoch, index, FLIP + 1)

    def one(self, image: Tensor, uniform: Tensor | None) -> Tensor:
        """One (C, H, W) image of any size as (C, image_size, image_size)."""
        if uniform is None:
            return centre_crop(image, self.image_size)
        return augment_one(image, uniform, self.image_size, self.padding, self.flip)


# ---- Images in memory --------------------------------------------------------------------------


class _MemoryLoader:
    """Batches by index out of tensors that live on the device."""

    def __init__(
        self, images: MemoryImages, plan: _Plan, view: _View, device: torch.device
    ) -> None:
        height, width = images.pixels.shape[2:]
        if (height, width) != (view.image_size, view.image_size):
            raise InputError(
                f"image_size {view.image_size} differs from the {height}x{width} images in memory; "
                "load them at that size"
            )
        self._pixels = images.pixels.to(device)
        self._labels = images.labels.to(device)
        self._plan = plan
        self._view = view

    def __len__(self) -> int:
        return len(self._plan)

    def epoch(self, number: int) -> Iterator[Batch]:
        shares = self._plan.shares(number)
        if not shares:
            return
        sizes = [len(share) for share in shares]
        # one step for the whole epoch, so that a batch costs a few gathers only
        index = torch.cat(shares)
        uniform = self._view.draws(number, index)
        on_device = index.to(self._pixels.device)
        changes = self._changes(uniform, sizes)
        for here, there, change in zip(shares, torch.split(on_device, sizes), changes, strict=True):
            images = self._pixels[there]
            if change is not None:
                images = self._augmented(images, change)
            yield Batch(here, images, self._labels[there])

    def _changes(self, uniform: Tensor | None, sizes: list[int]) -> Sequence[Tensor | None]:
        """For each batch (n, 3) int64: crop offsets down and across, and 1 for a flip."""
        if uniform is None:
            return [None] * len(sizes)
        positions = 2 * self._view.padding + 1
        top, left = (crop_offsets(uniform[:, column], positions) for column in (TOP, LEFT))
        flip = (uniform[:, FLIP] < self._view.flip).long()
        changes = torch.stack([top, left, flip], dim=1).to(self._pixels.device)
        return torch.split(changes, sizes)

    def _augmented(self, images: Tensor, change: Tensor) -> Tensor:
        top, left, flip = change.unbind(1)
        if self._view.padding:
            images = random_crop(images, top, left, self._view.padding)
        return random_flip(images, flip.bool()) if self._view.flip else images


# ---- Images decoded by workers -----------------------------------------------------------------


class _WorkerLoader:
    """Batches that worker processes decode, a few ahead of their use."""

    def __init__(
        self,
        images: ImageSet,
        plan: _Plan,
        view: _View,
        device: torch.device,
        workers: int | None,
    ) -> None:
        workers = _default_workers(plan.world_size) if workers is None else workers
        self._plan = plan
        self._device = device
        self._keys = _Keys(plan)
        self._loader: DataLoader[Batch | InputError] = DataLoader(
            _Decoder(images, view),
            batch_size=None,  # a key is a whole batch
            sampler=self._keys,
            num_workers=workers,
            persistent_workers=workers > 0,
            pin_memory=device.type == "cuda",
            multiprocessing_context=_process_context() if workers else None,
            generator=torch.Generator(),  # else each epoch would draw from the global one
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
    """The batches of an epoch as keys (epoch, indices), which say all that a worker needs."""

    def __init__(self, plan: _Plan) -> None:
        self.plan = plan
        self.epoch = 0

    def __len__(self) -> int:
        return len(self.plan)

    def __iter__(self) -> Iterator[tuple[int, Tensor]]:
        epoch = self.epoch
        for share in self.plan.shares(epoch):
            yield epoch, share


class _Decoder(TorchDataset[Batch | InputError]):
    """Decodes, crops and flips a batch."""

    def __init__(self, images: ImageSet, view: _View) -> None:
        self.images = images
        self.view = view

    def __getitem__(self, key: tuple[int, Tensor]) -> Batch | InputError:
        # an InputError is handed back, not raised: a DataLoader would wrap it in the worker's
        # traceback, and the user is to see its one line
        epoch, index = key
        try:
            return Batch(index, self._decoded(epoch, index), self.images.labels[index])
        except InputError as error:
            return error

    def _decoded(self, epoch: int, index: Tensor) -> Tensor:
        uniform = self.view.draws(epoch, index)
        rows = [None] * len(index) if uniform is None else uniform
        return torch.stack([self._one(int(i), row) for i, row in zip(index, rows, strict=True)])

    def _one(self, index: int, uniform: Tensor | None) -> Tensor:
        image = self.images.image(index)
        if min(image.shape[1:]) < self.view.image_size:
            raise InputError(
                f"{self.images.place(index)}: the image is smaller than image_size "
                f"{self.view.image_size}; load with a larger resize"
            )
        return self.view.one(image, uniform)


def _default_workers(world_size: int) -> int:
    """CPUs of this process shared by all, less one for the training loop itself."""
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(0, min(MOST_WORKERS, cpus // world_size - 1))


def _process_context() -> multiprocessing.context.BaseContext:
    """Workers forked from a clean server: a fork of this process would copy its threads' locks."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])  # torch is then imported once, not once a worker
    return context
