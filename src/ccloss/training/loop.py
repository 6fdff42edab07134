"""The training loop."""

import contextlib
import time
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, cast

import torch

from ccloss.data.sources import Dataset, check_same_data
from ccloss.errors import InputError
from ccloss.training.capture import CapturedStep, make_static_step
from ccloss.training.checkpoint import Progress, find_checkpoint, read_checkpoint, restore
from ccloss.training.components import Components, build_components
from ccloss.training.config import RunConfig, differences
from ccloss.training.devices import device_name, fp32_without_tf32, on_main_process
from ccloss.training.evaluation import predict, predict_training_sample
from ccloss.training.metrics import Predictions, accuracy, measure
from ccloss.training.progress import NullProgress, ProgressReporter, WarningLog, epoch_text
from ccloss.training.provenance import provenance
from ccloss.training.records import Record, RunFolder
from ccloss.training.static_step import StaticStep
from ccloss.training.step import accumulation, epoch_seed, to_float, train_step
from ccloss.training.trackers import Trackers, check_trackers
from ccloss.training.tracking import EpochBuffers, MetricTracker
from ccloss.training.writer import RunWriter

T = TypeVar("T")


class _Evaluation(NamedTuple):
    predictions: Predictions
    metrics: dict[str, Any]

    @property
    def scalars(self) -> dict[str, Any]:
        """Without metrics that have a value per class or bin, which only the record holds."""
        return {name: value for name, value in self.metrics.items() if not isinstance(value, list)}


def training_steps(
    config: RunConfig,
    folder: RunFolder,
    dataset: Dataset,
    *,
    resume: bool = False,
    overwrite: bool = False,
    allow_changed_data: bool = False,
    workers: int | None = None,
    trackers: Sequence[str] = (),
    reporter: ProgressReporter | None = None,
) -> Generator[None, None, Record]:
    """Trains one network, evaluates it, and writes the result to its folder.

    A generator: it returns the record, and yields after each step that is started on a GPU but not
    finished, so that one process can train several networks in turn. :func:`train` runs it.

    Everything is checked before anything is written. On the CPU, a run that was killed and resumed
    ends in the same weights, bit for bit, as one that was not.

    Args:
        config: the run.
        folder: where its files are written.
        dataset: its images, see :func:`ccloss.training.components.load_data`.
        resume: continue from the last checkpoint; start if there is none.
        overwrite: delete the run in the folder and train again.
        allow_changed_data: resume with a warning if the images have changed.
        workers: processes on this machine that decode large images; ``None``: by its cores.
        trackers: names of experiment trackers of Accelerate that receive the metrics.
        reporter: shows the progress.

    Raises:
        InputError: the run cannot be done as described, and nothing has been written.
        DivergenceError: the loss is NaN or infinite. The state after the epoch before is kept.
        OSError: a file cannot be read or written.
    """
    reporter = reporter or NullProgress()
    log = WarningLog(reporter)
    check_trackers(trackers)
    with contextlib.ExitStack() as stack:
        stack.enter_context(fp32_without_tf32(config.precision))
        run = build_components(config, dataset, workers, log.add)
        on_main_process(lambda: _open(folder, config, resume, overwrite, stack))
        on_main_process(lambda: _check_data(folder, dataset, allow_changed_data, log))
        done = _restore(folder, run, log)
        static = make_static_step(config, run, log.add)
        writer = RunWriter(folder, done)
        tracking = stack.enter_context(Trackers(trackers, folder, config))

        evaluation = None
        for epoch in range(done.epoch, run.epochs):
            started = time.perf_counter()
            line = yield from _train_epoch(config, run, static, epoch, done.step, reporter)
            warning = run.state.loss.diagnose(line["terms"])
            if warning is not None:
                log.add(warning)
            evaluation = _evaluate(config, run, reporter) if _is_due(config, run, epoch) else None
            if evaluation is not None and run.best is not None:
                run.best.update(run.evaluated, evaluation.metrics["accuracy"], epoch + 1)
            line["evaluation"] = evaluation and evaluation.scalars
            line["seconds"] = time.perf_counter() - started
            writer.write_epoch(line, run)
            tracking.log(line)
            done = Progress(line["epoch"], line["step"])
            reporter.epoch(epoch_text(line, run.epochs))

        if run.best is not None:
            run.evaluated.load_state_dict(run.best.model.state_dict())
            evaluation = None
        # A run that was killed just before its record was written has no epoch left to train.
        result = evaluation or _evaluate(config, run, reporter)
        if run.best is not None:
            result.metrics["epoch"] = int(run.best.epoch)

        def make_record() -> Record:
            return _make_record(config, run, folder, dataset, result.metrics, log.texts)

        training = predict_training_sample(config, run, dataset.train, workers, reporter)
        return writer.write_result(make_record, run, result.predictions, training, dataset)


def train(config: RunConfig, folder: RunFolder, dataset: Dataset, **options: Any) -> Record:
    """Trains one network; arguments, result and errors are those of :func:`training_steps`."""
    return run_to_end(training_steps(config, folder, dataset, **options))


def run_to_end(steps: Generator[None, None, T]) -> T:
    """What a generator returns."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return cast(T, end.value)


def _train_epoch(
    config: RunConfig,
    run: Components,
    static: StaticStep | CapturedStep | None,
    epoch: int,
    first_step: int,
    reporter: ProgressReporter,
) -> Generator[None, None, dict[str, Any]]:
    """Trains for one epoch, or for what ``max_steps`` leaves of it; its metrics."""
    run.state.network.train()
    run.state.loss.train()
    run.freeze_backbone(epoch < config.freeze_backbone_epochs)
    # Layers that draw random numbers draw the same ones after a resume.
    seed = epoch_seed(config.seed, epoch, run.accelerator.process_index)
    steps = min(len(run.train_loader), run.total_steps - first_step)
    rates = [run.schedule(first_step + step) for step in range(steps)]
    if static is None:
        buffers = EpochBuffers(steps, run.accelerator.device)
        progress = _eager_steps(config, run, buffers, epoch, rates, seed)
    else:
        buffers = static.buffers
        progress = _static_steps(static, epoch, rates, seed)
    tracker = MetricTracker(
        run.accelerator,
        buffers,
        epoch=epoch,
        first_step=first_step,
        total_steps=run.total_steps,
        batch_size=config.batch_size,
    )
    for _ in reporter.track(progress, f"epoch {epoch + 1}/{run.epochs}", steps):
        tracker.advance()
        if tracker.sync_due:
            reporter.status(tracker.sync())
        if static is not None:
            yield
    return {**tracker.summary(), "learning_rate": rates[-1]}


def _eager_steps(
    config: RunConfig,
    run: Components,
    buffers: EpochBuffers,
    epoch: int,
    rates: Sequence[float],
    seed: int,
) -> Iterator[None]:
    torch.manual_seed(seed)
    batches = zip(rates, run.train_loader.epoch(epoch), strict=False)
    for index, (rate, (_, images, labels)) in enumerate(batches):
        if run.mixing is not None:
            images, labels = run.mixing(to_float(images), labels, epoch, index)
        part, parts = accumulation(index, len(rates), config.accumulation_steps)
        output, terms = train_step(
            run.state,
            images,
            labels,
            learning_rate=rate,
            clip_grad_norm=config.clip_grad_norm,
            part=part,
            parts=parts,
        )
        if run.average is not None and part + 1 == parts:
            run.average.update_parameters(run.model)
        buffers.store(output, terms, labels)
        yield


def _static_steps(
    step: StaticStep | CapturedStep, epoch: int, rates: Sequence[float], seed: int
) -> Iterator[None]:
    step.start_epoch(epoch, rates, seed)
    for _ in rates:
        step()
        yield


def _is_due(config: RunConfig, run: Components, epoch: int) -> bool:
    """Whether an epoch ends with an evaluation."""
    return epoch + 1 == run.epochs or (epoch + 1) % config.evaluate_every == 0


def _evaluate(config: RunConfig, run: Components, reporter: ProgressReporter) -> _Evaluation:
    predictions = predict(run, run.evaluated, reporter)
    split = "validation" if config.validation else "test"
    metrics = {"split": split, **measure(predictions)}
    if run.average is not None:
        metrics["unaveraged_accuracy"] = accuracy(predict(run, run.model, reporter))
    return _Evaluation(predictions, metrics)


def _make_record(
    config: RunConfig,
    run: Components,
    folder: RunFolder,
    dataset: Dataset,
    evaluation: dict[str, Any],
    warnings: list[str],
) -> Record:
    lines = folder.read_metrics()
    steps = lines[-1]["step"]
    train_seconds = sum(line["train_seconds"] for line in lines)
    return Record(
        method=config.method,
        experiment=config.to_dict(),
        classes=list(dataset.classes),
        evaluation=evaluation,
        steps=steps,
        seconds=sum(line["seconds"] for line in lines),
        images_per_second=steps * config.batch_size / train_seconds,
        parameters=sum(parameter.numel() for parameter in run.model.parameters()),
        warnings=warnings,
        provenance={
            **provenance(device_name(run.accelerator.device)),
            "data": folder.read_data_digests(),
            "revision": dataset.revision,
            **run.origin,
        },
    )


# ---- the folder ----------------------------------------------------------------------------------


def _open(
    folder: RunFolder,
    config: RunConfig,
    resume: bool,
    overwrite: bool,
    stack: contextlib.ExitStack,
) -> None:
    """Locks the folder until the stack is closed, and prepares it for this run."""
    # Checked before the lock, which creates the folder, and again when no other process can write.
    check_folder(folder, config, resume, overwrite)
    stack.enter_context(folder.locked())
    check_folder(folder, config, resume, overwrite)
    if overwrite:
        folder.clear()
    folder.remove_temporary_files()
    if not folder.started:
        folder.write_config(config)


def check_folder(folder: RunFolder, config: RunConfig, resume: bool, overwrite: bool) -> None:
    """Checks that this run may write to the folder.

    Args:
        folder: where its files are written.
        config: the run.
        resume: see :func:`training_steps`.
        overwrite: see :func:`training_steps`.

    Raises:
        InputError: it may not.
    """
    if resume and overwrite:
        raise InputError("resume and overwrite exclude each other; give one of them")
    if not folder.started:
        folder.ensure_empty()
        return
    if overwrite:
        folder.ensure_only_run_files()
        return
    if folder.finished:
        raise InputError(
            f"{folder.path} holds a finished run; use --overwrite to train it again, "
            "or another --out"
        )
    if not resume:
        raise InputError(
            f"{folder.path} holds an unfinished run; use --resume to continue it, --overwrite to "
            "train it again, or another --out"
        )
    changed = differences(folder.read_config().to_dict(), config.to_dict())
    if changed:
        raise InputError(
            f"{folder.path} holds a run of another experiment ({changed}); resume it with its own "
            "options, or use another --out"
        )


def _check_data(folder: RunFolder, dataset: Dataset, allow_changed: bool, log: WarningLog) -> None:
    """Compares the images with those that the run has been trained on so far."""
    stored = folder.read_data_digests()
    if stored is None:
        folder.write_data_digests(dataset.digests())
        return
    warning = check_same_data(stored, dataset, allow_changed=allow_changed)
    if warning is not None:
        log.add(warning)


def _restore(folder: RunFolder, run: Components, log: WarningLog) -> Progress:
    """Restores the newest checkpoint that is not damaged, the same one in every process."""
    found = []

    def find() -> Path | None:
        checkpoint = find_checkpoint(folder.checkpoints, log.add)
        if checkpoint is None:
            return None
        found.append(checkpoint)
        return checkpoint.path

    path = on_main_process(find)
    if path is None:
        return Progress(0, 0)
    checkpoint = found[0] if found else read_checkpoint(path)
    restore(checkpoint, run.modules, run.state.optimizer)
    return checkpoint.progress
