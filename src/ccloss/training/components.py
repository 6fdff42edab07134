"""The parts of a run: data, network, loss, optimiser and loaders, built and checked together."""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from ccloss.data.images import ImageSet, statistics
from ccloss.data.loader import Loader, default_workers, eval_loader, train_loader
from ccloss.data.sources import Dataset, load
from ccloss.data.splitting import hold_out
from ccloss.data.transforms import Mixing, Transforms
from ccloss.errors import InputError
from ccloss.losses import Loss, loss_class, make_loss
from ccloss.models import Classifier, build_model
from ccloss.training.averaging import BestNetwork
from ccloss.training.config import RunConfig
from ccloss.training.devices import has_bf16, local_processes, make_accelerator
from ccloss.training.initial_state import set_initial_state
from ccloss.training.optimizers import build_optimizer
from ccloss.training.progress import NullProgress, ProgressReporter
from ccloss.training.schedules import make_schedule
from ccloss.training.step import TrainState

EVALUATION_BATCH_SIZE = 128

Warn = Callable[[str], None]


@dataclass(frozen=True)
class Components:
    """The parts of one run.

    Attributes:
        accelerator: device, precision and processes.
        model: the network that is trained.
        backbone_parameters: those parameters of its backbone that are trained.
        average: moving average of its weights; ``None`` without.
        best: the network of the best epoch; ``None`` if the last epoch is selected.
        state: what a training step reads and changes.
        train_loader: augmented batches of the training images.
        mixing: mixes these batches; ``None`` without mixup and CutMix.
        eval_loader: batches of the images to evaluate.
        epochs: number of epochs; the last one may be cut short by ``max_steps``.
        schedule: the learning rate of each step.
        total_steps: number of steps, one for each batch.
        origin: what the provenance says about the state at the start.
    """

    accelerator: Any
    model: Classifier
    backbone_parameters: tuple[nn.Parameter, ...]
    average: AveragedModel | None
    best: BestNetwork | None
    state: TrainState
    train_loader: Loader
    mixing: Mixing | None
    eval_loader: Loader
    epochs: int
    schedule: Callable[[int], float]
    total_steps: int
    origin: dict[str, Any]

    @property
    def modules(self) -> dict[str, nn.Module]:
        """The modules whose state a checkpoint holds."""
        return _modules(self.model, self.state.loss, self.average, self.best)

    @property
    def evaluated(self) -> Classifier:
        """The network that is evaluated and saved: the average, or else the trained one."""
        if self.average is None:
            return self.model
        assert isinstance(self.average.module, Classifier)
        return self.average.module

    def freeze_backbone(self, frozen: bool) -> None:
        """Excludes the backbone from training, its batch statistics included, or includes it."""
        for parameter in self.backbone_parameters:
            parameter.requires_grad_(not frozen)
        if frozen:
            self.model.backbone.eval()


def load_data(
    config: RunConfig, data_root: Path | None = None, reporter: ProgressReporter | None = None
) -> Dataset:
    """The images of a run.

    If the run holds out a fraction of the training images, they replace the test images.

    Raises:
        InputError: the data are missing, incomplete or corrupt.
    """
    reporter = reporter or NullProgress()
    dataset = load(
        config.data,
        data_root=data_root,
        image_size=config.image_size,
        channels=config.channels,
        resize=config.resize or None,
        train_limit=config.train_limit,
        test_limit=config.test_limit,
        allow_missing_classes=config.allow_missing_classes,
        track=reporter.track,
    )
    for note in dataset.notes:
        reporter.warn(note)
    if config.validation:
        train_images, held_out = hold_out(dataset.train, config.validation)
        dataset = dataset._replace(train=train_images, test=held_out)
    return dataset


def build_components(
    config: RunConfig, dataset: Dataset, workers: int | None, warn: Warn
) -> Components:
    """Builds the parts of a run and checks that they fit together.

    Args:
        config: the run.
        dataset: its images.
        workers: processes on this machine that decode large images; ``None``: by its cores.
        warn: receives warnings.

    Raises:
        InputError: the parts do not fit together.
    """
    if dataset.channels != config.channels:
        raise InputError(
            f"data {dataset.name} has {dataset.channels} channels, and the run is configured for "
            f"{config.channels}; load the data with the run's own configuration"
        )
    accelerator = make_accelerator(config.precision, config.freeze_backbone_epochs > 0)
    if config.precision == "bf16" and not has_bf16(accelerator.device):
        warn("this device has no bf16 instructions: fp32 can be many times faster")
    loss = _build_loss(config, len(dataset.classes)).to(accelerator.device)
    _check_mixing(config, loss)
    model = _build_initial_model(config, dataset)
    _check_fit(model, loss, config.image_size)
    images_per_process = config.batch_size // accelerator.num_processes
    train = _build_train_loader(config, dataset, accelerator, workers)
    model.to(memory_format=torch.channels_last).to(accelerator.device)
    if accelerator.num_processes > 1:
        model = _with_joint_statistics(model, accelerator.device, warn)
    _check_batch_norm(model, config, images_per_process)
    average, best = _build_copies(config, model)
    optimizer = build_optimizer(config, model, loss)
    origin = set_initial_state(config, _modules(model, loss, average, best), optimizer, warn)
    if average is not None:
        accelerator.prepare_model(average.module, evaluation_mode=True)
    network: nn.Module = accelerator.prepare_model(model)
    steps = config.epochs * len(train)
    total_steps = min(steps, config.max_steps or steps)
    return Components(
        accelerator=accelerator,
        model=model,
        backbone_parameters=tuple(p for p in model.backbone.parameters() if p.requires_grad),
        average=average,
        best=best,
        state=TrainState(network, loss, optimizer, accelerator),
        train_loader=train,
        mixing=_build_mixing(config, len(dataset.classes)),
        eval_loader=build_eval_loader(config, dataset.test, accelerator, workers),
        epochs=math.ceil(total_steps / len(train)),
        schedule=make_schedule(config, total_steps, len(train)),
        total_steps=total_steps,
        origin=origin,
    )


def build_network(config: RunConfig, classes: int, pretrained: bool = False) -> Classifier:
    """The network of a run, with initial weights."""
    options: dict[str, Any] = {}
    if config.final_pool is not None:
        options["final_pool"] = config.final_pool
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
        classifier_bias=loss_class(config.loss).classifier_bias,
        head_norm=config.head_norm,
        activation=config.activation,
        **options,
    )


def build_eval_loader(
    config: RunConfig, images: ImageSet, accelerator: Any, workers: int | None
) -> Loader:
    """Batches of the images to evaluate, shared by all processes."""
    return eval_loader(
        images,
        batch_size=EVALUATION_BATCH_SIZE,
        device=accelerator.device,
        image_size=config.image_size,
        rank=accelerator.process_index,
        world_size=accelerator.num_processes,
        workers=workers_per_process(workers),
    )


def workers_per_process(workers: int | None) -> int:
    """Each process's share of the workers of this machine.

    Args:
        workers: of the machine; ``None``: one for each core but one per process, 8 at most.
    """
    processes = local_processes()
    if workers is None:
        return default_workers(processes)
    # A requested number of workers is never rounded down to 0.
    return max(1, workers // processes) if workers > 0 else workers


def _build_loss(config: RunConfig, classes: int) -> Loss:
    torch.manual_seed(config.seed)  # for a loss with initial parameters
    return make_loss(
        config.loss, config.loss_options, num_classes=classes, features=config.hidden_features
    )


def _build_initial_model(config: RunConfig, dataset: Dataset) -> Classifier:
    torch.manual_seed(config.seed)
    pretrained = config.pretrained and config.continue_from is None
    model = build_network(config, len(dataset.classes), pretrained)
    if not pretrained:
        mean, std = statistics(dataset.train)
        # A constant channel has no scale; dividing by 1 leaves it as it is.
        model.set_pixel_statistics(mean, [value or 1.0 for value in std])
    return model


def _build_train_loader(
    config: RunConfig, dataset: Dataset, accelerator: Any, workers: int | None
) -> Loader:
    return train_loader(
        dataset.train,
        batch_size=config.batch_size,
        seed=config.seed,
        device=accelerator.device,
        image_size=config.image_size,
        padding=config.padding,
        flip=config.flip,
        samples_per_class=config.samples_per_class if config.sampler == "m-per-class" else None,
        class_balanced=config.sampler == "class-balanced",
        transforms=Transforms(
            resized_crop=config.random_resized_crop,
            trivial_augment=config.trivial_augment,
            erasing=config.random_erasing,
        ),
        rank=accelerator.process_index,
        world_size=accelerator.num_processes,
        workers=workers_per_process(workers),
    )


def _build_mixing(config: RunConfig, classes: int) -> Mixing | None:
    if not (config.mixup or config.cutmix):
        return None
    return Mixing(classes, config.mixup, config.cutmix, config.seed)


def _build_copies(
    config: RunConfig, model: Classifier
) -> tuple[AveragedModel | None, BestNetwork | None]:
    """Copies of the network, before Accelerate binds methods of the network to it."""
    average = None
    if config.ema_decay is not None:
        decay = get_ema_multi_avg_fn(config.ema_decay)
        average = AveragedModel(model, multi_avg_fn=decay, use_buffers=True)
    return average, BestNetwork(model) if config.select == "best" else None


def _modules(
    model: Classifier, loss: Loss, average: AveragedModel | None, best: BestNetwork | None
) -> dict[str, nn.Module]:
    found = {"model": model, "loss": loss, "average": average, "best": best}
    return {name: module for name, module in found.items() if module is not None}


def _check_mixing(config: RunConfig, loss: Loss) -> None:
    """Checks that the loss takes the labels of mixed images."""
    if (config.mixup or config.cutmix) and not loss.takes_soft_labels:
        raise InputError(
            f"{'mixup' if config.mixup else 'cutmix'} needs a loss that accepts soft labels, and "
            f"loss {config.loss!r} does not, because {loss.hard_labels_because}; leave the "
            "option out or choose another loss"
        )


def _check_fit(model: Classifier, loss: Loss, image_size: int) -> None:
    """Checks that the loss accepts the network's output."""
    with torch.no_grad():
        output = model.eval()(_zeros(model, image_size))
        loss.check(output, torch.zeros(1, dtype=torch.long))


def _check_batch_norm(model: Classifier, config: RunConfig, images: int) -> None:
    """Checks that the network can train on the images that each process gets."""
    if images > 1 or any(isinstance(layer, nn.SyncBatchNorm) for layer in model.modules()):
        return
    probe = copy.deepcopy(model).cpu().train()  # a forward pass changes the statistics
    try:
        with torch.no_grad(), torch.random.fork_rng():
            probe(_zeros(probe, config.image_size))
    except ValueError:  # of a layer of batch normalisation
        raise InputError(
            f"batch_size {config.batch_size} gives each process one image, and batch "
            "normalisation needs more than one value per channel; use a larger batch_size"
        ) from None


def _zeros(model: Classifier, image_size: int) -> Tensor:
    return torch.zeros(1, model.in_channels, image_size, image_size)


def _with_joint_statistics(model: Classifier, device: torch.device, warn: Warn) -> Classifier:
    """The model with synchronized batch normalisation (SyncBatchNorm) on GPUs."""
    if device.type != "cpu":
        joint: Classifier = nn.SyncBatchNorm.convert_sync_batchnorm(model)
        return joint
    if any(isinstance(layer, nn.modules.batchnorm._BatchNorm) for layer in model.modules()):
        warn("batch normalisation uses the statistics of each process: SyncBatchNorm needs GPUs")
    return model
