"""A training step whose inputs and outputs are tensors at fixed addresses."""

import contextlib
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from ccloss.data.loader import EpochPlan, MemoryLoader
from ccloss.training.step import TrainState, train_step
from ccloss.training.tracking import EpochBuffers


class StaticStep:
    """The step of :func:`~ccloss.training.step.train_step` without arguments and results.

    A call takes the number of the step from a counter on the device, and the images, crops, flips
    and learning rate of that step from tensors on the device. It trains, stores the terms of the
    loss and the correct predictions in ``buffers``, and increments the counter. Two calls execute
    the same operations on the same addresses, so that one call can be captured in a CUDA graph.

    Args:
        state: network, loss and optimiser; they are changed.
        loader: the training images, in memory.
        clip_grad_norm: see :func:`~ccloss.training.step.train_step`.
    """

    def __init__(self, state: TrainState, loader: MemoryLoader, clip_grad_norm: float) -> None:
        self._state = state
        self._loader = loader
        self._clip_grad_norm = clip_grad_norm
        self.device: torch.device = state.accelerator.device
        self.buffers = EpochBuffers(len(loader), self.device)
        self._plan: EpochPlan | None = None
        self._rates = torch.zeros(len(loader), device=self.device)
        self._rate = torch.zeros((), device=self.device)

    def start_epoch(self, number: int, rates: Sequence[float], seed: int) -> None:
        """Copies the order, crops, flips and learning rates of an epoch to the device.

        Args:
            number: of the epoch.
            rates: learning rate of each step; fewer than an epoch has if ``max_steps`` cuts it.
            seed: of the random numbers that layers and losses draw.
        """
        torch.manual_seed(seed)
        plan = self._loader.plan(number)
        if self._plan is None:
            self._plan = plan
        for own, new in zip(self._plan, plan, strict=True):
            own.copy_(new)
        self._rates[: len(rates)].copy_(torch.tensor(rates))
        self.buffers.reset()

    def __call__(self) -> None:
        """Trains one step."""
        assert self._plan is not None  # start_epoch makes it
        index, augmentation = (rows.index_select(0, self.buffers.step)[0] for rows in self._plan)
        self._rate.copy_(self._rates.index_select(0, self.buffers.step)[0])
        images, labels = self._loader.select(index, augmentation)
        with self._fixed_buffers():
            output, terms = train_step(
                self._state,
                images,
                labels,
                learning_rate=self._rate,
                clip_grad_norm=self._clip_grad_norm,
            )
        self.buffers.store(output, terms, labels)

    @contextlib.contextmanager
    def preserved(self) -> Iterator[None]:
        """Undoes the steps inside the block."""
        saved = [(tensor, tensor.clone()) for tensor in self.persistent()]
        try:
            yield
        finally:
            with torch.no_grad():
                for tensor, value in saved:
                    tensor.copy_(value)
            self._state.optimizer.zero_grad()
            self.buffers.reset()

    def train(self) -> None:
        """Sets network and loss to training mode."""
        self._state.network.train()
        self._state.loss.train()

    def persistent(self) -> list[Tensor]:
        """The tensors that a step reads and changes: parameters, buffers, optimiser state."""
        return [
            *self._state.network.parameters(),
            *self._state.network.buffers(),
            *self._state.loss.parameters(),
            *self._state.loss.buffers(),
            *(
                value
                for state in self._state.optimizer.state.values()
                for value in state.values()
                if isinstance(value, Tensor)
            ),
        ]

    @contextlib.contextmanager
    def _fixed_buffers(self) -> Iterator[None]:
        """Moves buffers that the block replaces by new tensors back to their addresses.

        After an error in the block they have their former values.
        """
        modules = [*self._state.network.modules(), *self._state.loss.modules()]
        before = [(module, dict(module._buffers)) for module in modules]
        try:
            yield
        except BaseException:
            for module, buffers in before:
                module._buffers.update(buffers)
            raise
        for module, buffers in before:
            for name, buffer in buffers.items():
                new = module._buffers[name]
                if buffer is not None and new is not None and new is not buffer:
                    module._buffers[name] = buffer.copy_(new)
