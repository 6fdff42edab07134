"""The pieces of :mod:`benchmarks.device`. Each yields one row a measurement."""

import contextlib
import functools
import itertools
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.device import Row, Settings
from benchmarks.gpu_section import Measurements
from ccloss.bench.campaign.plan import Run
from ccloss.bench.experiment import Experiment
from ccloss.data.catalog import SOURCES
from ccloss.data.images import MemoryImages
from ccloss.data.loader import MemoryLoader
from ccloss.data.sources import MEMORY_SIZE, Dataset
from ccloss.training.capture import CapturedStep
from ccloss.training.components import Components, build_components
from ccloss.training.config import Precision, RunConfig
from ccloss.training.devices import fp32_without_tf32
from ccloss.training.static_step import StaticStep
from ccloss.training.step import to_float, train_step
from ccloss.training.tracking import EpochBuffers

ROOT = Path(__file__).parents[1]

Action = Callable[[], None]
"""One training step, or one pass of the loss."""

BATCH = 32


class Case(NamedTuple):
    """A network and its images, as in Table 1."""

    data: str
    backbone: str
    classes: int
    channels: int


TABLE1_CASES = (
    Case("cifar100", "resnet18", 100, 3),
    Case("cifar100", "vgg16", 100, 3),
    Case("mnist", "resnet18", 10, 1),
    Case("mnist", "vgg16", 10, 1),
    Case("cars196", "resnet18", 196, 3),
    Case("cars196", "vgg16", 196, 3),
)
"""All that :func:`benchmarks.gpu_section.table1_seconds` needs; Cars are decoded by workers."""

SMALL_CASE = Case("digits", "convnet", 10, 1)


# ---- (a) tests ---------------------------------------------------------------------------------


def tests(settings: Settings) -> Iterator[Row]:
    """The tests that need a GPU. In a dry run they are only collected."""
    command = [sys.executable, "-m", "pytest", "-v", "-p", "no:cacheprovider", "-m", "gpu"]
    # Warnings of other versions of packages are no errors here, and other plugins are not loaded.
    command += ["-o", "filterwarnings=", "--durations", "5"]
    command += ["--collect-only"] if settings.dry_run else []
    started = time.monotonic()
    status: int | None = None
    try:
        done = subprocess.run(
            [*command, "tests/training/test_gpu.py"],
            cwd=ROOT,
            env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=settings.seconds_left,
            check=False,
        )
        output, status = done.stdout, done.returncode
    except subprocess.TimeoutExpired as error:  # what has run so far counts
        output = (error.stdout or b"").decode()
    print(output[-6000:])
    lines = output.splitlines()
    yield {
        "status": status,
        "passed": sum(" PASSED" in line for line in lines),
        "failed": [line for line in lines if line.startswith("FAILED") or " FAILED" in line],
        "summary": lines[-1] if lines else "",
        "seconds": time.monotonic() - started,
    }


# ---- (b) steps ---------------------------------------------------------------------------------


def steps(settings: Settings) -> Iterator[Row]:
    """Seconds of training steps: ours, captured and eager, beside common loops."""
    for measurement in _step_measurements(settings):
        if settings.seconds_left < 0:
            return
        yield _attempt(measurement, settings)


class _Measurement(NamedTuple):
    """A row without its numbers, and a function that builds the step to measure."""

    row: Row
    build: Callable[[], Action]


def _step_measurements(settings: Settings) -> Iterator[_Measurement]:
    """In order of value; compilation takes longest and comes last."""
    if settings.dry_run:
        for name in _ALTERNATIVES:
            yield _measurement(settings, SMALL_CASE, "fp32", "ce", name)
        yield _measurement(settings, SMALL_CASE, "fp32", "cc", "captured")
        return
    main, second, *_ = TABLE1_CASES
    for name in ("captured", "eager", "timm", "plain"):
        yield _measurement(settings, main, "bf16", "ce", name)
    for loss in ("ce+cam", "cc"):
        yield _measurement(settings, main, "bf16", loss, "captured")
    for case in TABLE1_CASES:
        name = "eager" if case.data == "cars196" else "captured"
        yield _measurement(settings, case, "fp32", "ce", name)
    yield _measurement(settings, main, "fp32", "ce", "eager")
    for name in ("captured", "eager", "timm"):
        yield _measurement(settings, second, "bf16", "ce", name)
    for case, name in (
        (main, "reduce-overhead"),
        (main, "captured and compiled"),
        (second, "reduce-overhead"),
    ):
        yield _measurement(settings, case, "bf16", "ce", name)


def _measurement(
    settings: Settings,
    case: Case,
    precision: str,
    loss: str,
    name: str,
) -> _Measurement:
    config = _config(settings, case, loss, precision)
    row = {
        "data": case.data,
        "backbone": case.backbone,
        "precision": precision,
        "loss": loss,
        "batch": config.batch_size,
        "alternative": name,
    }
    return _Measurement(row, partial(_ALTERNATIVES[name], settings, config, case))


def _attempt(measurement: _Measurement, settings: Settings) -> Row:
    """The row with its numbers, or with the error that prevented them."""
    started = time.monotonic()
    try:
        with fp32_without_tf32(measurement.row["precision"]):
            action = measurement.build()
            build_seconds = time.monotonic() - started
            seconds = _seconds(action, settings)
    except Exception as error:  # the other measurements go on
        return {**measurement.row, "error": f"{type(error).__name__}: {error}"[:500]}
    return {
        **measurement.row,
        "steps": settings.steps,
        "seconds": seconds,
        "build_seconds": build_seconds,
    }


def _config(settings: Settings, case: Case, loss: str, precision: str) -> RunConfig:
    experiment = Experiment(
        data=case.data,
        loss=loss,
        backbone=case.backbone,
        pretrained=False,
        precision="bf16" if precision == "bf16" else "fp32",
    )
    return experiment.resolve(channels=1 if case.channels == 1 else 3)


def _components(settings: Settings, config: RunConfig, case: Case) -> Components:
    """The parts of a run on random images.

    With images in memory an epoch has 400 steps: its order and augmentation are computed between
    two steps, and a real epoch has four times as many.
    """
    epoch_steps = 20 if settings.dry_run or config.image_size > MEMORY_SIZE else 400
    count = epoch_steps * config.batch_size
    pixels = _pixels(count, case.channels, config.image_size)
    images = MemoryImages(pixels, torch.arange(count) % case.classes)
    names = tuple(str(number) for number in range(case.classes))
    data = Dataset(case.data, images, images, names, case.channels)
    run = build_components(config, data, None, lambda text: None)
    run.state.network.train()
    run.state.loss.train()
    return run


@functools.cache
def _pixels(count: int, channels: int, size: int) -> Tensor:
    """Random images, (count, channels, size, size) uint8."""
    generator = torch.Generator().manual_seed(0)
    shape = (count, channels, size, size)
    return torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)


def _static(settings: Settings, config: RunConfig, case: Case) -> StaticStep | CapturedStep:
    run = _components(settings, config, case)
    assert isinstance(run.train_loader, MemoryLoader)
    step = StaticStep(run.state, run.train_loader, config.clip_grad_norm)
    step.train()
    return CapturedStep(step) if settings.device == "cuda" else step


def _captured(settings: Settings, config: RunConfig, case: Case) -> Action:
    step = _static(settings, config, case)
    return _repeated(step, len(step.buffers.terms))


def _compiled(settings: Settings, config: RunConfig, case: Case) -> Action:
    run = _components(settings, config, case)
    assert isinstance(run.train_loader, MemoryLoader)
    backend = "inductor" if settings.device == "cuda" else "eager"
    network: Any = torch.compile(run.state.network, backend=backend)
    step = StaticStep(run.state._replace(network=network), run.train_loader, config.clip_grad_norm)
    ready = CapturedStep(step) if settings.device == "cuda" else step
    return _repeated(ready, len(ready.buffers.terms))


def _repeated(step: StaticStep | CapturedStep, epoch_steps: int) -> Action:
    """Steps of one epoch after another."""
    numbers = itertools.count()

    def action() -> None:
        number = next(numbers)
        if number % epoch_steps == 0:
            step.start_epoch(number // epoch_steps, [1e-3] * epoch_steps, seed=number)
        step()

    return action


def _eager(settings: Settings, config: RunConfig, case: Case) -> Action:
    run = _components(settings, config, case)
    batches = itertools.chain.from_iterable(map(run.train_loader.epoch, itertools.count()))
    buffers = EpochBuffers(1, torch.device(settings.device))

    def action() -> None:
        _, images, labels = next(batches)
        clip = config.clip_grad_norm
        step = train_step(run.state, images, labels, learning_rate=1e-3, clip_grad_norm=clip)
        buffers.reset()
        buffers.store(*step, labels)

    return action


def _plain(settings: Settings, config: RunConfig, case: Case) -> Action:
    """A plain loop on batches that are on the device; the loss is read in every step."""
    return _plain_loop(settings, config, case, lambda network: network)


def _reduce_overhead(settings: Settings, config: RunConfig, case: Case) -> Action:
    options: dict[str, Any] = {"mode": "reduce-overhead"}
    if settings.device == "cpu":
        options = {"backend": "eager"}
    return _plain_loop(settings, config, case, lambda network: torch.compile(network, **options))


def _plain_loop(
    settings: Settings,
    config: RunConfig,
    case: Case,
    prepare: Callable[[nn.Module], Any],
) -> Action:
    run = _components(settings, config, case)
    model = _bare_model(run)
    network = prepare(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9, weight_decay=5e-4)
    batches = itertools.chain.from_iterable(map(run.train_loader.epoch, itertools.count()))

    def action() -> None:
        _, images, labels = next(batches)
        optimizer.zero_grad()
        with _autocast(settings, config):
            value = F.cross_entropy(network(to_float(images)).logits, labels)
        value.backward()
        if config.clip_grad_norm:
            nn.utils.clip_grad_norm_(model.parameters(), config.clip_grad_norm)
        optimizer.step()
        value.item()

    return action


def _bare_model(run: Components) -> nn.Module:
    """The network without the autocast that Accelerate adds to its forward pass."""
    model: nn.Module = run.accelerator.unwrap_model(run.model, keep_fp32_wrapper=False)
    return model


def _timm(settings: Settings, config: RunConfig, case: Case) -> Action:
    """Timm's loader with its default augmentation, optimiser and loss, as in its train script.

    cuDNN chooses its algorithms by measuring them, as in that script.
    """
    import numpy as np
    import timm.data
    import timm.optim
    from PIL import Image

    size, on_gpu = config.image_size, settings.device == "cuda"
    pixels = np.random.default_rng(0).integers(0, 256, (size, size, 3), dtype=np.uint8)

    class Images(torch.utils.data.Dataset[Any]):
        def __init__(self) -> None:
            self.transform: Any = None

        def __len__(self) -> int:
            return 200 * config.batch_size

        def __getitem__(self, index: int) -> Any:
            return self.transform(Image.fromarray(pixels)), index % case.classes

    create_loader: Any = timm.data.create_loader  # type: ignore[attr-defined]
    loader = create_loader(
        Images(),
        input_size=(3, size, size),
        batch_size=config.batch_size,
        is_training=True,
        use_prefetcher=on_gpu,
        num_workers=8 if on_gpu else 0,
        device=torch.device(settings.device),
        persistent_workers=on_gpu,
    )
    network = _bare_model(_components(settings, config, case))
    create_optimizer: Any = timm.optim.create_optimizer_v2  # type: ignore[attr-defined]
    optimizer = create_optimizer(network, opt="sgd", lr=1e-3)
    batches = itertools.chain.from_iterable(iter(loader) for _ in itertools.count())

    @_measured_algorithms()
    def action() -> None:
        images, labels = next(batches)
        images = images[:, : case.channels].contiguous(memory_format=torch.channels_last)
        with _autocast(settings, config):
            value = F.cross_entropy(network(images).logits, labels)
        optimizer.zero_grad()
        value.backward()
        if config.clip_grad_norm:
            nn.utils.clip_grad_norm_(network.parameters(), config.clip_grad_norm)
        optimizer.step()

    return action


@contextlib.contextmanager
def _measured_algorithms() -> Iterator[None]:
    """Lets cuDNN choose its algorithms by measuring them."""
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = True
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before


_ALTERNATIVES: Mapping[str, Callable[[Settings, RunConfig, Case], Action]] = {
    "captured": _captured,
    "eager": _eager,
    "plain": _plain,
    "timm": _timm,
    "reduce-overhead": _reduce_overhead,
    "captured and compiled": _compiled,
}


def _autocast(settings: Settings, config: RunConfig) -> Any:
    return torch.autocast(settings.device, torch.bfloat16, enabled=config.precision == "bf16")


def _seconds(action: Action, settings: Settings, repetitions: int = 3) -> list[float]:
    """Wall time of the timed steps, several times, after a warm-up."""
    for _ in range(min(10, settings.steps)):
        action()
    times = []
    for _ in range(1 if settings.dry_run else repetitions):
        _synchronize(settings)
        started = time.perf_counter()
        for _ in range(settings.steps):
            action()
        _synchronize(settings)
        times.append(time.perf_counter() - started)
    return times


def _synchronize(settings: Settings) -> None:
    if settings.device == "cuda":
        torch.cuda.synchronize()


# ---- (c) rounds --------------------------------------------------------------------------------


def rounds(settings: Settings) -> Iterator[Row]:
    """Seconds of steps of R rounds: a graph and a stream each, or branches of one graph."""
    case = SMALL_CASE if settings.dry_run else TABLE1_CASES[0]
    precision = "fp32" if settings.dry_run else "bf16"
    config = _config(settings, case, "cc", precision)
    for count in (1, 2) if settings.dry_run else (1, 5, 2, 3, 8):
        layouts: dict[str, Callable[[], Action]] = {
            "graphs": partial(_own_graphs, settings, config, case, count)
        }
        if settings.device == "cuda":
            layouts["branches"] = partial(_branches, settings, config, case, count)
        for layout, build in layouts.items():
            if settings.seconds_left < 0:
                return
            row = {"rounds": count, "layout": layout, "precision": precision}
            yield _attempt(_Measurement(row, build), settings)


def _own_graphs(settings: Settings, config: RunConfig, case: Case, count: int) -> Action:
    actions = [_captured(settings, config, case) for _ in range(count)]
    on_gpu = settings.device == "cuda"
    streams = [torch.cuda.Stream() if on_gpu else None for _ in actions]

    def action() -> None:
        for stream, step in zip(streams, actions, strict=True):
            with torch.cuda.stream(stream):
                step()

    return action


def _branches(settings: Settings, config: RunConfig, case: Case, count: int) -> Action:
    """The alternative that is not used: all rounds as branches of one graph."""
    components = [_components(settings, config, case) for _ in range(count)]
    static = []
    for run in components:
        assert isinstance(run.train_loader, MemoryLoader)
        static.append(StaticStep(run.state, run.train_loader, config.clip_grad_norm))
    main, streams = torch.cuda.Stream(), [torch.cuda.Stream() for _ in static]
    for stream, step in zip(streams, static, strict=True):
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            step.start_epoch(0, [1e-3] * len(step.buffers.terms), seed=0)
            for _ in range(3):
                step()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=main):
        for stream, step in zip(streams, static, strict=True):
            stream.wait_stream(main)
            with torch.cuda.stream(stream):
                step()
        for stream in streams:
            main.wait_stream(stream)
    numbers = itertools.count()

    def action() -> None:
        if next(numbers) % len(static[0].buffers.terms) == 0:  # the end of an epoch
            for step in static:
                step.buffers.reset()
        graph.replay()

    return action


# ---- (d) the loss ------------------------------------------------------------------------------


def loss(settings: Settings) -> Iterator[Row]:
    """Forward and backward pass of the term, eager and compiled."""
    from ccloss.functional import channel_correlation

    sizes = (32, 128) if settings.dry_run else (32, 128, 512, 2048, 8192, 32768, 131072)
    compiled: Any = channel_correlation
    if settings.device == "cuda":
        compiled = torch.compile(channel_correlation, dynamic=False)
    functions = {"eager": channel_correlation, "compiled": compiled}
    # Each size is compiled by itself, which takes longer than the other measurements together.
    for (name, function), samples in itertools.product(functions.items(), sizes):
        if settings.seconds_left < 0:
            return
        row = {"samples": samples, "width": 512, "classes": 100, "alternative": name}
        measurement = _Measurement(
            {**row, "precision": "fp32"}, partial(_loss_pass, settings, function, samples)
        )
        yield _attempt(measurement, settings)


def _loss_pass(settings: Settings, function: Callable[..., Tensor], samples: int) -> Action:
    generator = torch.Generator().manual_seed(0)
    vectors = torch.rand(samples, 512, generator=generator).to(settings.device).requires_grad_()
    labels = torch.randint(100, (samples,), generator=generator).to(settings.device)

    def action() -> None:
        vectors.grad = None
        function(vectors, labels, num_classes=100).backward()

    action()
    return action


# ---- kernels -----------------------------------------------------------------------------------


def profile(settings: Settings) -> Iterator[Row]:
    """Kernels of a step, captured and eager, and the seconds in which the GPU executes them.

    A profiler slows all later steps of its process. The times are therefore measured before it.
    """
    case = SMALL_CASE if settings.dry_run else TABLE1_CASES[0]
    precision: Precision = "fp32" if settings.dry_run else "bf16"
    actions, rows = [], []
    with fp32_without_tf32(precision):
        for name in ("captured", "eager"):
            measurement = _measurement(settings, case, precision, "ce", name)
            actions.append(measurement.build())
            seconds = _seconds(actions[-1], settings)
            rows.append({**measurement.row, "steps": settings.steps, "seconds": seconds})
        for row, action in zip(rows, actions, strict=True):
            yield {**row, **_profile(action, settings)}


def _profile(action: Action, settings: Settings, count: int = 20) -> Row:
    """Number of kernels of a step, and seconds of a step in which at least one is executed."""
    from torch.profiler import ProfilerActivity

    if settings.device != "cuda":
        return {}
    _synchronize(settings)
    with torch.profiler.profile(activities=[ProfilerActivity.CUDA]) as profiler:
        for _ in range(count):
            action()
        _synchronize(settings)
    spans = sorted(
        (event.time_range.start, event.time_range.end)  # microseconds
        for event in profiler.events() or ()
        if event.device_type.name == "CUDA"
        and not event.is_user_annotation
        and not event.name.startswith(("Memcpy", "Memset"))
    )
    busy, end = 0.0, 0.0
    for start, stop in spans:
        busy += max(0.0, stop - max(start, end))
        end = max(end, stop)
    return {"kernels_per_step": len(spans) / count, "busy_seconds": busy * 1e-6 / count}


# ---- (e) real rounds ---------------------------------------------------------------------------

METHODS = ("ce", "ce+cam", "cc")

SHORT_EPOCHS = 60

USABLE_TIME = 0.7
"""Share of the time for training steps; evaluation and checkpoints take the rest."""

ASSUMED_STEP_SECONDS = 3e-3
"""Seconds of a step of all methods, if they were not measured."""


def training(settings: Settings) -> Iterator[Row]:
    """Paired rounds of CIFAR-100 ResNet18, with as many epochs as the time allows.

    If 60 epochs fit twice, they have half of the time, and rounds of 300 epochs the other half.
    """
    if settings.dry_run:
        yield from _train_rounds(settings, "digits", 1, settings.deadline)
        return
    if settings.data is None:
        yield {"error": "no --data: real rounds need the images of CIFAR-100"}
        return
    fitting = _fitting_epochs(settings)
    yield {"fitting_epochs": fitting}
    if fitting < 2 * SHORT_EPOCHS:
        epochs = max(1, min(SHORT_EPOCHS, fitting))
        yield from _train_rounds(settings, "cifar100", epochs, settings.deadline)
        return
    half = time.monotonic() + settings.seconds_left / 2
    yield from _train_rounds(settings, "cifar100", SHORT_EPOCHS, half)
    yield from _train_rounds(settings, "cifar100", 300, settings.deadline)


def _fitting_epochs(settings: Settings) -> int:
    """Epochs for which the time suffices, by the measured steps of as many rounds at a time."""
    measured = Measurements(settings.out).rounds_seconds(len(METHODS))
    epoch_steps = SOURCES["cifar100"].train // BATCH
    step_seconds = measured or ASSUMED_STEP_SECONDS
    return int(USABLE_TIME * settings.seconds_left / (epoch_steps * step_seconds))


def _train_rounds(settings: Settings, data: str, epochs: int, deadline: float) -> Iterator[Row]:
    """Trains rounds of all methods until the deadline, all methods of a seed before the next."""
    from ccloss.bench.campaign.executors import InterleavingExecutor
    from ccloss.bench.campaign.plan import plan
    from ccloss.bench.campaign.scheduler import Outcome, run_steps
    from ccloss.bench.results import write_campaign

    # Checkpoints are written to memory where that is possible: the steps wait for them.
    memory = Path("/dev/shm")
    folder = Path(tempfile.mkdtemp(dir=memory if memory.is_dir() else None))
    steps = settings.steps if settings.dry_run else None
    experiments = [
        Experiment(
            data=data,
            loss=method,
            backbone=None if settings.dry_run else "resnet18",
            epochs=epochs,
            max_steps=steps,
        )
        for method in METHODS
    ]
    runs = plan(experiments, 1 if settings.dry_run else 5, folder, settings.data)
    waiting = list(runs)
    futures: dict[Future[Outcome], Run] = {}
    with InterleavingExecutor(len(METHODS)) as executor:
        while (waiting or futures) and time.monotonic() < deadline:
            while waiting and len(futures) < executor.slots:
                run = waiting.pop(0)
                future = executor.submit(lambda run: run_steps(run, settings.data), run)
                futures[future] = run
            time.sleep(0.2)
            for future in [each for each in futures if each.done()]:
                run, outcome = futures.pop(future), future.result()
                row = {"run": run.name, "epochs": epochs, "error": outcome.error}
                if not outcome.error:
                    record = run.folder.read_record()
                    row |= {"accuracy": record.evaluation["accuracy"], "seconds": record.seconds}
                    row |= {"steps": record.steps, "warnings": record.warnings}
                    write_campaign(folder, settings.out / f"{data}-{epochs}-epochs.jsonl")
                yield row
        # Before the executor is left, which waits for a step: a run without capture is one step.
        yield from _unfinished(futures.values(), epochs)
    shutil.rmtree(folder)


def _unfinished(runs: Iterable[Run], epochs: int) -> Iterator[Row]:
    """How far the runs came that the deadline stopped."""
    for run in runs:
        lines = run.folder.read_metrics()
        if lines:
            evaluations = [line["evaluation"] for line in lines if line["evaluation"]]
            yield {
                "run": run.name,
                "epochs": epochs,
                "epochs_done": len(lines),
                "steps": lines[-1]["step"],
                "train_seconds": sum(line["train_seconds"] for line in lines),
                "train_accuracy": lines[-1]["train_accuracy"],
                "accuracy": evaluations[-1]["accuracy"] if evaluations else None,
            }
