"""Capture of the training step in a CUDA graph.

A training step of a small network is several hundred kernels of a few microseconds. Started from
Python one by one, they leave the GPU idle most of the time. A CUDA graph records them once, and a
replay starts all of them with one call.
"""

import contextlib
import gc
import warnings
from collections.abc import Callable, Iterator, Sequence

import torch

from ccloss.data.loader import MemoryLoader
from ccloss.errors import first_line
from ccloss.training.components import Components
from ccloss.training.config import RunConfig
from ccloss.training.options import OPTIONS
from ccloss.training.static_step import StaticStep

WARM_UP_STEPS = 3
"""Steps before the capture, in which libraries choose kernels and allocate work space."""

MEMORY_MARGIN = 1.1
"""Factor on the memory that a step was seen to need."""


_EAGER_OPTIONS = (
    "optimizer",
    "accumulation_steps",
    "mixup",
    "cutmix",
    "ema_decay",
    "freeze_backbone_epochs",
)
"""Options of training that only eager steps support."""


class CaptureError(Exception):
    """The step cannot be captured. The message is the cause, in one line."""


class CapturedStep:
    """A :class:`StaticStep` captured in one CUDA graph. A call replays it on the current stream.

    Weights, buffers and optimiser state are the same after the capture as before it. The graph
    draws random numbers from a generator of its own, so that several graphs in one process do not
    depend on each other.

    Args:
        step: the step.

    Raises:
        CaptureError: the step contains an operation that cannot be captured, or the memory of the
            device is too small.
    """

    def __init__(self, step: StaticStep) -> None:
        self._step = step
        self.buffers = step.buffers
        self._generator = torch.Generator(step.device)
        self._graph = torch.cuda.CUDAGraph()
        default = torch.cuda.default_generators[step.device.index or 0]
        shared_state = default.graphsafe_get_state()
        default.graphsafe_set_state(self._generator.graphsafe_get_state())
        try:
            self._capture()
        except Exception as error:
            raise CaptureError(_cause(error)) from error
        finally:
            default.graphsafe_set_state(shared_state)

    def start_epoch(self, number: int, rates: Sequence[float], seed: int) -> None:
        """See :meth:`StaticStep.start_epoch`."""
        self._step.start_epoch(number, rates, seed)
        self._generator.manual_seed(seed)

    def __call__(self) -> None:
        self._graph.replay()

    def _capture(self) -> None:
        self._step.train()
        self._step.start_epoch(0, [0.0], seed=0)
        # Gradients are accumulated on the stream on which they were first computed, so all steps
        # before the capture and the capture itself use the same stream. The default stream cannot
        # be captured. A run beside others has a stream of its own: graphs captured on the same
        # stream share a work space and must not be replayed at the same time.
        current = torch.cuda.current_stream(self._step.device)
        is_default = current == torch.cuda.default_stream(self._step.device)
        stream = torch.cuda.Stream(self._step.device) if is_default else current
        stream.wait_stream(current)
        with torch.cuda.stream(stream), self._step.preserved():
            self._warm_up()
        current.wait_stream(stream)
        self._graph.register_generator_state(self._generator)
        gc.collect()  # destroying the tensors of another graph would disturb the capture
        with (
            torch.cuda.stream(current),  # to which PyTorch 2.11 does not return after an error
            # Other threads, such as the writer of TensorBoard, may use the device meanwhile.
            torch.cuda.graph(self._graph, stream=stream, capture_error_mode="thread_local"),
        ):
            self._step()
        self.buffers.reset()

    def _warm_up(self) -> None:
        device = self._step.device
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        for number in range(WARM_UP_STEPS):
            self.buffers.reset()
            is_last = number == WARM_UP_STEPS - 1
            with _no_synchronization() if is_last else contextlib.nullcontext():
                self._step()
        needed = MEMORY_MARGIN * (torch.cuda.max_memory_allocated(device) - before)
        torch.cuda.synchronize(device)
        torch.cuda.empty_cache()
        free, _ = torch.cuda.mem_get_info(device)
        if needed > free:
            raise CaptureError(
                f"it needs {needed / 2**30:.1f} GiB of device memory, and {free / 2**30:.1f} GiB "
                "are free; use a smaller --rounds-per-device or --batch-size"
            )


@contextlib.contextmanager
def _no_synchronization() -> Iterator[None]:
    """Makes operations that wait for the device an error, as a capture does.

    The error comes before the capture: in PyTorch 2.11, a capture that fails leaves the allocator
    of the device in a state in which later captures fail too.
    """
    mode = torch.cuda.get_sync_debug_mode()
    _set_sync_debug_mode("error")
    try:
        yield
    finally:
        _set_sync_debug_mode(mode)


def _set_sync_debug_mode(mode: int | str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # PyTorch calls the mode a prototype
        torch.cuda.set_sync_debug_mode(mode)


def make_static_step(
    config: RunConfig, run: Components, warn: Callable[[str], None]
) -> CapturedStep | StaticStep | None:
    """The captured step of a run, or ``None`` if its steps are eager.

    Steps are eager on CPUs, over several processes, and with images that workers decode. On a GPU,
    a step that cannot be captured is eager too, with a warning.

    Args:
        config: the run.
        run: its parts; their state is that of the first step.
        warn: receives the warning.
    """
    accelerator, loader = run.accelerator, run.train_loader
    on_gpu = accelerator.device.type == "cuda" and accelerator.num_processes == 1
    if not on_gpu or not isinstance(loader, MemoryLoader):
        return None
    try:
        _check_supported(config, run)
        return CapturedStep(StaticStep(run.state, loader, config.clip_grad_norm))
    except CaptureError as error:
        warn(f"the training step is not captured in a CUDA graph and therefore slower: {error}")
        return None


def _check_supported(config: RunConfig, run: Components) -> None:
    """Raises :class:`CaptureError` for what a captured step does not do."""
    if not run.state.loss.capturable:
        raise CaptureError(f"loss {config.loss} reads values of the device")
    for name in _EAGER_OPTIONS:
        value = getattr(config, name)
        if value != OPTIONS[name]:
            raise CaptureError(f"it does not support {name} {value}")


def _cause(error: BaseException) -> str:
    """The first line of the error that came first: the end of a failed capture raises another."""
    while error.__context__ is not None:
        error = error.__context__
    return first_line(error)
