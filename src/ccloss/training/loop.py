"""The one loop over batches."""

import ctypes
import math
import platform
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol, TypeVar

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import broadcast, gather_object
from safetensors.torch import load_file, save
from torch import Tensor, nn

from ccloss.data.images import ImageSet, MemoryImages, fingerprint, statistics, untracked
from ccloss.data.loader import Batch, Loader, eval_loader, train_loader
from ccloss.data.sources import Dataset, hold_out, load
from ccloss.errors import DivergenceError, InputError
from ccloss.losses import loss_class, make_loss
from ccloss.models import Classifier, build_model
from ccloss.output import Output
from ccloss.training.checkpoint import Progress, load_checkpoint, save_checkpoint
from ccloss.training.config import RunConfig, differences
from ccloss.training.devices import device_name, has_bf16
from ccloss.training.metrics import Predictions, balanced, join, measure
from ccloss.training.records import Record, RunFolder, provenance, write_atomically

T = TypeVar("T")

LOOK_SECONDS = 0.5
"""Between looks at the losses within an epoch: each look waits for the device."""

SAMPLE_IMAGES = 1000
"""So many test images, at most, keep their features on disk."""

THUMBNAIL_SIZE = 32
"""Largest side of the images kept with them, in pixels."""

EVALUATION_BATCH = 128

PROBED_PIXELS = 32 * 32 * 32
"""A step is timed on as many images as have so many pixels: a batch of 32 at 32 px."""

PROBED_STEPS = 20
"""So many steps at most ..."""

PROBED_SECONDS = 1.0
"""... and so long."""

TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
"""Names of settings in glibc's malloc.h."""


class Watcher(Protocol):
    """Who is told how a run goes."""

    def track(self, iterable: Iterable[T], description: str, total: int) -> Iterable[T]:
        """Hands the items on, and may show how far they have come."""

    def status(self, text: str) -> None:
        """How it stands within an epoch; each text replaces the one before."""

    def epoch(self, text: str) -> None:
        """One line at the end of each epoch."""

    def warn(self, text: str) -> None:
        """What the user should know, one line."""


class Silent:
    """The watcher that shows nothing. Warnings are kept in the record all the same."""

    def track(self, iterable: Iterable[T], description: str, total: int) -> Iterable[T]:
        return untracked(iterable, description, total)

    def status(self, text: str) -> None: ...

    def epoch(self, text: str) -> None: ...

    def warn(self, text: str) -> None: ...


def load_data(
    config: RunConfig, data_root: Path | None = None, watcher: Watcher | None = None
) -> Dataset:
    """The images of a run.

    If the run holds out a fraction of the training images, they replace the test images.

    Raises:
        InputError: the data are not there, or not what they should be.
    """
    dataset = load(
        config.data,
        data_root=data_root,
        image_size=config.image_size,
        channels=config.channels,
        resize=config.resize or None,
        train_limit=config.train_limit,
        test_limit=config.test_limit,
        track=(watcher or Silent()).track,
    )
    if config.validation:
        train_images, held_out = hold_out(dataset.train, config.validation)
        dataset = dataset._replace(train=train_images, test=held_out)
    return dataset


def train(
    config: RunConfig,
    folder: RunFolder,
    dataset: Dataset,
    *,
    resume: bool = False,
    overwrite: bool = False,
    workers: int | None = None,
    watcher: Watcher | None = None,
) -> Record:
    """Trains one network, evaluates it, and leaves what is known of it in its folder.

    Everything is checked before anything is written. On the CPU, a run that was killed and resumed
    ends in the same weights, bit for bit, as one that was not.

    Args:
        config: what to do.
        folder: where to keep what comes of it.
        dataset: as :func:`load_data` gives it.
        resume: go on after the last checkpoint; begin if there is none.
        overwrite: train again where a run has been, and forget that run.
        workers: processes that decode large images; by default as many as the cores allow.
        watcher: is told how it goes.

    Raises:
        InputError: what was asked for cannot be done, and nothing has been written.
        DivergenceError: the loss has become NaN or infinite. The state after the epoch before is
            kept.
    """
    run = _Run(config, dataset, workers, watcher or Silent())
    return run.train(folder, resume, overwrite)


def evaluate(
    folder: RunFolder,
    dataset: Dataset,
    *,
    workers: int | None = None,
    watcher: Watcher | None = None,
) -> dict[str, Any]:
    """Evaluates the network of a finished run as :func:`ccloss.training.metrics.measure` does.

    Raises:
        InputError: the folder holds no finished run, or the data are not those of the run.
    """
    record = folder.read_record()
    if tuple(record.classes) != dataset.classes:
        raise InputError(
            f"data {dataset.name} has {len(dataset.classes)} classes, and the run in "
            f"{folder.path} knows {len(record.classes)} or others; evaluate on the run's own data"
        )
    config = RunConfig.from_dict(record.experiment)
    accelerator = _accelerator(config)
    model = accelerator.prepare_model(load_model(folder), evaluation_mode=True)
    loader = _eval_loader(config, dataset, accelerator, workers)
    return measure(_predict(model, loader, watcher or Silent(), "evaluation"))


def load_model(folder: RunFolder) -> Classifier:
    """The trained network of a finished run; it takes images in [0, 1] or uint8.

    Raises:
        InputError: the folder holds no finished run, or its weights cannot be read.
    """
    record = folder.read_record()
    config = RunConfig.from_dict(record.experiment)
    model = _build_model(config, len(record.classes), pretrained=False)
    try:
        model.load_state_dict(load_file(folder.model))
    except Exception as error:  # a missing or damaged file, or other weights
        reason = str(error).splitlines()[0]
        raise InputError(f"{folder.model} cannot be read ({reason}); train the run again") from None
    return model


def seconds_per_step(config: RunConfig, classes: int) -> float:
    """Wall time of a training step on this device: the quickest of :func:`step_times`."""
    return min(step_times(config, classes))


def step_times(
    config: RunConfig,
    classes: int,
    seconds: float = PROBED_SECONDS,
    steps: float = PROBED_STEPS,
) -> list[float]:
    """Wall times of training steps on this device, on random images, in seconds.

    Large images are measured on a part of the batch, and the times are those of a whole one. The
    first step, which sets up what the others use, is left out.

    Args:
        config: the run.
        classes: number of classes.
        seconds: to go on for; at least two steps are taken.
        steps: so many at most.
    """
    size, batch = config.image_size, config.batch_size
    part = min(batch, max(2, PROBED_PIXELS // size**2))
    device = _accelerator(config).device
    model = _build_model(config, classes, pretrained=False).to(device)
    model.to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3, fused=True)
    images = torch.rand(part, model.in_channels, size, size, device=device)
    labels = torch.arange(part, device=device) % classes
    times: list[float] = []
    while len(times) < 2 or (sum(times) < seconds and len(times) < steps):
        started = time.perf_counter()
        with torch.autocast(device.type, torch.bfloat16, enabled=config.precision == "bf16"):
            output = model(images.to(memory_format=torch.channels_last))
        optimizer.zero_grad()
        nn.functional.cross_entropy(output.logits.float(), labels).backward()
        optimizer.step()
        float(output.logits.detach().sum())  # waits for the device
        times.append(time.perf_counter() - started)
    return [taken * batch / part for taken in times[1:]]


def learning_rate(step: int, total: int, first: float, last: float) -> float:
    """Half a cosine from ``first`` at step 0 to ``last`` at step ``total``."""
    return last + (first - last) * (1 + math.cos(math.pi * step / total)) / 2


class _Run:
    """The parts of one run, built and found to fit together."""

    def __init__(
        self, config: RunConfig, dataset: Dataset, workers: int | None, watcher: Watcher
    ) -> None:
        if dataset.channels != config.channels:
            raise InputError(
                f"data {dataset.name} have {dataset.channels} channels, and the run is configured "
                f"for {config.channels}; load the data with the run's own configuration"
            )
        self.config = config
        self.dataset = dataset
        self.watcher = watcher
        self.warnings: list[str] = []
        self.accelerator = _accelerator(config)
        torch.manual_seed(config.seed)  # for what a loss may draw when it is built
        self.loss = make_loss(
            config.loss,
            config.loss_options,
            num_classes=len(dataset.classes),
            features=config.hidden_features,
        ).to(self.accelerator.device)
        self.model = self._initial_model()
        self.train_loader = self._train_loader(workers)
        self.eval_loader = _eval_loader(config, dataset, self.accelerator, workers)
        self.network = self._network()
        self.optimizer = torch.optim.SGD(
            [*self.network.parameters(), *self.loss.parameters()],
            lr=config.learning_rate,
            momentum=config.momentum,
            weight_decay=config.weight_decay,
            fused=True,
        )
        batches = len(self.train_loader)
        steps = config.epochs * batches
        self.total_steps = min(steps, config.max_steps or steps)
        self.epochs = math.ceil(self.total_steps / batches)

    # ---- the loop --------------------------------------------------------------------------------

    def train(self, folder: RunFolder, resume: bool, overwrite: bool) -> Record:
        with ExitStack() as stack:
            if self.accelerator.is_main_process:
                # Once before the lock, which leaves a file, and once when no other can step in.
                _check_folder(folder, self.config, resume, overwrite)
                stack.enter_context(folder.locked())
                _check_folder(folder, self.config, resume, overwrite)
                _open_folder(folder, self.config, overwrite)
            self.accelerator.wait_for_everyone()
            if self.config.precision == "bf16" and not has_bf16(self.accelerator.device):
                self._warn("this device has no bf16 instructions: fp32 can be many times faster")
            done = load_checkpoint(folder.checkpoints, self._modules, self.optimizer, self._warn)
            keeper = None
            if self.accelerator.is_main_process:
                keeper = stack.enter_context(_Keeper(folder, done))
            return self._train_from(done, keeper)

    def _train_from(self, done: Progress, keeper: "_Keeper | None") -> Record:
        predictions = evaluation = None
        for epoch in range(done.epoch, self.epochs):
            started = time.perf_counter()
            line = self._train_epoch(epoch, done.step)
            done = Progress(line["epoch"], line["step"])
            predictions = self._predict() if self._is_evaluated(epoch) else None
            evaluation = None if predictions is None else self._measure(predictions)
            line["evaluation"] = evaluation and _numbers(evaluation)
            line["seconds"] = time.perf_counter() - started
            if keeper is not None:
                keeper.keep_epoch(line)
                save_checkpoint(keeper.folder.checkpoints, done, self._modules, self.optimizer)
            self.watcher.epoch(_epoch_text(line, self.epochs))
        # A run may have been killed when nothing but its record was left to write.
        if predictions is None or evaluation is None:
            predictions = self._predict()
            evaluation = self._measure(predictions)
        lines = [] if keeper is None else keeper.folder.read_metrics()
        record = self._record(lines, done.step, evaluation)
        if keeper is not None:
            keeper.finish(record, self.model, _sample(predictions, self.dataset.test))
        return record

    def _train_epoch(self, epoch: int, step: int) -> dict[str, Any]:
        """A pass over the training images, or what is left of ``max_steps``: its metrics line."""
        self.network.train()
        self.loss.train()
        # Layers that draw at random then draw the same after a resume.
        torch.manual_seed(_mixed(self.config.seed, epoch))
        steps = min(len(self.train_loader), self.total_steps - step)
        meter = _Meter(self, epoch, step, steps)
        batches = zip(range(step, step + steps), self.train_loader.epoch(epoch), strict=False)
        description = f"epoch {epoch + 1}/{self.epochs}"
        for number, batch in self.watcher.track(batches, description, steps):
            output, terms = self._step(number, batch)
            meter.update(output, terms, batch.labels)
        return meter.line()

    def _step(self, step: int, batch: Batch) -> tuple[Output, dict[str, Tensor]]:
        """One step of the optimiser."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.learning_rate(step)
        output = self.network(_images(batch))
        terms = self.loss.terms(output, batch.labels)
        self.optimizer.zero_grad()
        self.accelerator.backward(terms["total"])
        if self.accelerator.num_processes > 1:
            self._average_gradients_of_loss()
        self.optimizer.step()
        return output, terms

    def _average_gradients_of_loss(self) -> None:
        """Over processes, as the network's are: a loss's own parameters must stay one."""
        for parameter in self.loss.parameters():
            if parameter.grad is not None:
                parameter.grad = self.accelerator.reduce(parameter.grad, "mean")

    def learning_rate(self, step: int) -> float:
        first, last = self.config.learning_rate, self.config.final_learning_rate
        return learning_rate(step, self.total_steps, first, last)

    def _predict(self) -> Predictions:
        network = self.accelerator.unwrap_model(self.network)
        if self.accelerator.num_processes > 1:
            # Batch statistics of the process that saves the model, for all that evaluate it.
            broadcast(list(network.buffers()))
        return _predict(network, self.eval_loader, self.watcher, "evaluation")

    def _is_evaluated(self, epoch: int) -> bool:
        last = epoch + 1 == self.epochs
        return last or (epoch + 1) % self.config.evaluate_every == 0

    def _measure(self, predictions: Predictions) -> dict[str, Any]:
        split = "validation" if self.config.validation else "test"
        return {"split": split, **measure(predictions)}

    def _record(
        self, lines: list[dict[str, Any]], steps: int, evaluation: dict[str, Any]
    ) -> Record:
        images = steps * self.config.batch_size
        train_seconds = sum(line["train_seconds"] for line in lines)
        return Record(
            method=self.config.method,
            experiment=self.config.to_dict(),
            classes=list(self.dataset.classes),
            evaluation=evaluation,
            steps=steps,
            seconds=sum(line["seconds"] for line in lines),
            images_per_second=images / train_seconds if train_seconds else 0.0,
            parameters=sum(parameter.numel() for parameter in self.model.parameters()),
            warnings=self.warnings,
            provenance={
                **provenance(device_name(self.accelerator.device)),
                "images": {
                    "train": _fingerprint(self.dataset.train),
                    "test": _fingerprint(self.dataset.test),
                },
            },
        )

    def _warn(self, text: str) -> None:
        if text not in self.warnings:
            self.warnings.append(text)
            self.watcher.warn(text)

    # ---- the parts -------------------------------------------------------------------------------

    @property
    def _modules(self) -> dict[str, nn.Module]:
        """Whose state makes up a checkpoint."""
        return {"model": self.model, "loss": self.loss}

    def _initial_model(self) -> Classifier:
        torch.manual_seed(self.config.seed)
        classes = len(self.dataset.classes)
        model = _build_model(self.config, classes, self.config.pretrained)
        if not self.config.pretrained:
            mean, std = statistics(self.dataset.train)
            # A channel that never varies carries nothing; 1 leaves it alone.
            model.set_pixel_statistics(mean, [value or 1.0 for value in std])
        self._check_fit(model)
        return model

    def _check_fit(self, model: Classifier) -> None:
        """Lets the loss look at an output of the network before any work is done."""
        size = self.config.image_size
        with torch.no_grad():
            output = model.eval()(torch.zeros(1, model.in_channels, size, size))
            self.loss.check(output, torch.zeros(1, dtype=torch.long))

    def _network(self) -> nn.Module:
        """The model as it is trained: on its device, in its precision, over all processes."""
        self.model.to(memory_format=torch.channels_last).to(self.accelerator.device)
        if self.accelerator.num_processes > 1:
            self._join_batch_norms()
        network: nn.Module = self.accelerator.prepare_model(self.model)
        return network

    def _join_batch_norms(self) -> None:
        """Batch normalisation over the batch of all processes, where torch has it."""
        if self.accelerator.device.type != "cpu":
            self.model = nn.SyncBatchNorm.convert_sync_batchnorm(self.model)
        elif any(isinstance(layer, nn.BatchNorm2d) for layer in self.model.modules()):
            self._warn(
                "batch normalisation sees each process's own images: torch joins its statistics "
                "on GPUs only"
            )

    def _train_loader(self, workers: int | None) -> Loader:
        config = self.config
        return train_loader(
            self.dataset.train,
            batch_size=config.batch_size,
            seed=config.seed,
            device=self.accelerator.device,
            image_size=config.image_size,
            padding=config.padding,
            flip=config.flip,
            samples_per_class=(
                config.samples_per_class if config.sampler == "m-per-class" else None
            ),
            rank=self.accelerator.process_index,
            world_size=self.accelerator.num_processes,
            workers=workers,
        )


class _Meter:
    """Follows the loss within an epoch without making the device wait at every step."""

    def __init__(self, run: _Run, epoch: int, step: int, steps: int) -> None:
        self.run = run
        self.epoch = epoch
        self.first_step = step
        self.steps = steps
        self.names: list[str] = []
        self.history: Tensor | None = None  # [steps, terms], on the device
        self.taken = 0  # steps taken in
        self.looked = 0  # of which so many are known to be finite
        self.correct = torch.zeros((), dtype=torch.long, device=run.accelerator.device)
        self.started = self.last_look = time.perf_counter()

    def update(self, output: Output, terms: dict[str, Tensor], labels: Tensor) -> None:
        """Takes in one step."""
        values = torch.stack([term.detach() for term in terms.values()])
        if self.history is None:
            # In one piece: a small tensor kept from every step would lie between the large ones
            # that come and go, and their memory could not be used again.
            self.names, self.history = list(terms), values.new_empty(self.steps, len(terms))
        self.history[self.taken] = values
        self.taken += 1
        self.correct += (output.logits.detach().argmax(1) == labels).sum()
        if time.perf_counter() - self.last_look > LOOK_SECONDS:
            self.look()
            self.last_look = time.perf_counter()

    def look(self) -> None:
        """Reads the terms of the steps since the last look, and refuses to go on with NaN."""
        values = self._history()[self.looked : self.taken].cpu()
        self._check_finite(values)
        self.looked = self.taken
        terms = dict(zip(self.names, values.mean(0).tolist(), strict=True))
        images = self.looked * self.run.config.batch_size
        share = images / self.run.accelerator.num_processes
        seconds = time.perf_counter() - self.started
        left = self.run.total_steps - self.first_step - self.looked
        self.run.watcher.status(
            f"{_terms_text(terms)}  train {100 * self.correct.item() / share:.2f} %  "
            f"{images / seconds:.0f} images/s  {duration(seconds / self.looked * left)} left"
        )

    def line(self) -> dict[str, Any]:
        """The epoch in numbers: means over steps and processes."""
        values = self._history()[: self.taken]
        self._check_finite(values[self.looked :].cpu())
        seconds = time.perf_counter() - self.started
        run = self.run
        means = run.accelerator.reduce(values.mean(0), "mean").tolist()
        correct = run.accelerator.reduce(self.correct, "sum").item()
        self._warn_of_collapse(values)
        step = self.first_step + self.taken
        images = self.taken * run.config.batch_size
        return {
            "epoch": self.epoch + 1,
            "step": step,
            "learning_rate": run.learning_rate(step - 1),
            "terms": dict(zip(self.names, means, strict=True)),
            "train_accuracy": 100 * correct / images,
            "train_seconds": seconds,
            "images_per_second": images / seconds,
        }

    def _history(self) -> Tensor:
        assert self.history is not None, "no step has been taken"
        return self.history

    def _check_finite(self, values: Tensor) -> None:
        """Refuses the first of the last steps' terms that is NaN or infinite."""
        bad = ~values.isfinite().all(1)
        if not bool(bad.any()):
            return
        place = int(bad.nonzero()[0, 0])
        terms = dict(zip(self.names, values[place].tolist(), strict=True))
        step = self.first_step + self.looked + place + 1
        raise DivergenceError(
            f"the loss is not finite at step {step} (epoch {self.epoch + 1}): "
            f"{_terms_text(terms)}; try a lower learning rate or loss weight, or precision fp32"
        )

    def _warn_of_collapse(self, values: Tensor) -> None:
        eps = getattr(self.run.loss, "eps", None)
        if eps is None or "inter" not in self.names:
            return
        largest = float(values[:, self.names.index("inter")].max())
        if largest < eps:
            self.run._warn(
                f"attention has collapsed: the inter-class distance stayed below eps ({eps:g}) "
                f"through epoch {self.epoch + 1}; try a lower loss weight"
            )


class _Keeper:
    """Writes a run's folder while it trains; the main process has it."""

    def __init__(self, folder: RunFolder, done: Progress) -> None:
        # Imported here: it takes as long as all else that a run without epochs left has to do.
        from torch.utils.tensorboard import SummaryWriter

        self.folder = folder
        folder.keep_metrics(done.epoch)
        self.board = SummaryWriter(str(folder.tensorboard), purge_step=done.epoch + 1)

    def __enter__(self) -> "_Keeper":
        return self

    def __exit__(self, *_: object) -> None:
        self.board.close()

    def keep_epoch(self, line: dict[str, Any]) -> None:
        """Before the checkpoint: a kill between the two costs the epoch, not its line."""
        self.folder.append_metrics(line)
        for name, value in _scalars(line):
            self.board.add_scalar(name, value, line["epoch"])

    def finish(self, record: Record, model: Classifier, sample: dict[str, Tensor]) -> None:
        weights = {key: value.cpu().contiguous() for key, value in model.state_dict().items()}
        write_atomically(self.folder.model, save(weights))
        write_atomically(self.folder.test_sample, save(sample))
        self.folder.write_record(record)


# ---- the folder --------------------------------------------------------------------------------


def _check_folder(folder: RunFolder, config: RunConfig, resume: bool, overwrite: bool) -> None:
    """Refuses a folder that this run may not write to."""
    if resume and overwrite:
        raise InputError("resume and overwrite exclude each other; give one of them")
    if not folder.started:
        folder.check_free()
        return
    if overwrite:
        folder.check_own()
        return
    if folder.finished:
        raise InputError(
            f"{folder.path} holds a finished run; use --overwrite to train it again, "
            "or another --out"
        )
    if not resume:
        raise InputError(
            f"{folder.path} holds an unfinished run; use --resume to go on, --overwrite to begin "
            "again, or another --out"
        )
    changed = differences(folder.read_config().to_dict(), config.to_dict())
    if changed:
        raise InputError(
            f"{folder.path} holds a run of another experiment ({changed}); resume it as it was, "
            "or use another --out"
        )


def _open_folder(folder: RunFolder, config: RunConfig, overwrite: bool) -> None:
    if overwrite:
        folder.clear()
    if not folder.started:
        folder.write_config(config)


def _sample(predictions: Predictions, images: ImageSet) -> dict[str, Tensor]:
    """Some images, as many of every class as there are, with their features and attention."""
    places = balanced(predictions.labels, SAMPLE_IMAGES)
    sample = {
        "thumbnails": _thumbnails(images, predictions.index[places]),
        "index": predictions.index[places],
        "labels": predictions.labels[places],
        "predictions": predictions.logits[places].argmax(1),
        "features": predictions.features[places],
    }
    if predictions.attention is not None:
        sample["attention"] = predictions.attention[places]
    return sample


def _thumbnails(images: ImageSet, places: Tensor) -> Tensor:
    """(n, H, W, C) uint8: the middle squares of large images, smaller ones as they are."""
    return torch.stack([_thumbnail(images.image(place)) for place in places.tolist()])


def _thumbnail(image: Tensor) -> Tensor:
    from torchvision.transforms.v2.functional import center_crop, resize  # it sets the environment

    if max(image.shape[1:]) > THUMBNAIL_SIZE:
        square = center_crop(image, [min(image.shape[1:])] * 2)
        image = resize(square, [THUMBNAIL_SIZE] * 2, antialias=True)
    return image.permute(1, 2, 0).contiguous()


def _fingerprint(images: ImageSet) -> str | None:
    """Of images in memory; others would all have to be decoded once more."""
    return fingerprint(images) if isinstance(images, MemoryImages) else None


# ---- the parts of a run and of an evaluation -----------------------------------------------------


def _accelerator(config: RunConfig) -> Accelerator:
    # Accelerate keeps one precision a process; a process may well train in one after the other.
    AcceleratorState._reset_state()
    _keep_freed_memory()
    return Accelerator(
        mixed_precision="bf16" if config.precision == "bf16" else "no",
        # Said outright, for it joins processes that a launcher has started on CPUs only then.
        cpu=not torch.accelerator.is_available(),
    )


def _build_model(config: RunConfig, classes: int, pretrained: bool) -> Classifier:
    return build_model(
        config.backbone,
        num_classes=classes,
        in_channels=config.channels,
        image_size=config.image_size,
        hidden_features=config.hidden_features,
        attention=config.attention,
        pretrained=pretrained,
        reduction=config.reduction,
        unit_classifier=loss_class(config.loss).unit_classifier,
    )


def _eval_loader(
    config: RunConfig, dataset: Dataset, accelerator: Accelerator, workers: int | None
) -> Loader:
    return eval_loader(
        dataset.test,
        batch_size=EVALUATION_BATCH,
        device=accelerator.device,
        image_size=config.image_size,
        rank=accelerator.process_index,
        world_size=accelerator.num_processes,
        workers=workers,
    )


@torch.inference_mode()
def _predict(network: nn.Module, loader: Loader, watcher: Watcher, title: str) -> Predictions:
    """The network's outputs on every image of a loader, gathered from all processes."""
    network.eval()
    parts = [
        _to_predictions(batch, network(_images(batch)))
        for batch in watcher.track(loader.epoch(0), title, len(loader))
    ]
    return join(gather_object(parts))


def _to_predictions(batch: Batch, output: Output) -> Predictions:
    attention = None if output.attention is None else output.attention.float().cpu()
    return Predictions(
        index=batch.index,
        labels=batch.labels.cpu(),
        logits=output.logits.float().cpu(),
        features=output.features.float().cpu(),
        attention=attention,
    )


def _images(batch: Batch) -> Tensor:
    """Pixels in [0, 1], in the memory format of the network."""
    return batch.images.to(memory_format=torch.channels_last).float().div_(255)


def _keep_freed_memory() -> None:
    """Lets a step have what the one before has freed, where glibc would hand it back.

    It then comes from the system again, page by page, some megabytes in each layer.
    """
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(MMAP_THRESHOLD, 2**30)
        libc.mallopt(TRIM_THRESHOLD, 2**31 - 1)


def _mixed(seed: int, epoch: int) -> int:
    """One seed out of two, different for every pair that occurs."""
    return seed * 1_000_003 + epoch + 1


# ---- in words ------------------------------------------------------------------------------------


def _numbers(evaluation: dict[str, Any]) -> dict[str, Any]:
    """Without what has a value for each class or bin: that is for the record alone."""
    return {name: value for name, value in evaluation.items() if not isinstance(value, list)}


def _scalars(line: dict[str, Any]) -> Iterator[tuple[str, float]]:
    """A metrics line as named numbers."""
    for group in ("terms", "evaluation"):
        for name, value in (line[group] or {}).items():
            if isinstance(value, int | float):
                yield f"{group}/{name}", value
    for name in ("learning_rate", "train_accuracy", "images_per_second", "seconds"):
        yield f"training/{name}", line[name]


def _epoch_text(line: dict[str, Any], epochs: int) -> str:
    parts = [
        f"epoch {line['epoch']}/{epochs}",
        _terms_text(line["terms"]),
        f"train {line['train_accuracy']:.2f} %",
    ]
    evaluation = line["evaluation"]
    if evaluation is not None:
        parts.append(f"{evaluation['split']} {evaluation['accuracy']:.2f} %")
    parts.append(f"{line['images_per_second']:.0f} images/s")
    return "  ".join(parts)


def _terms_text(terms: dict[str, float]) -> str:
    return " ".join(f"{name} {value:.4g}" for name, value in terms.items())


def duration(seconds: float) -> str:
    """In the two units that matter: ``3 d 4 h``, ``2 h 05 min``, ``3 min 20 s``, ``12 s``."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days} d {hours} h"
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {seconds:02d} s" if minutes else f"{seconds} s"
