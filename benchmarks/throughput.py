"""Images a second of training: ccloss beside what people would use instead.

    python -m benchmarks.throughput --timm-script train.py \
        --out benchmarks/results/throughput.json

The same network (``ccloss.build_model(..., attention=False)``), cross-entropy, batch 32, SGD with
momentum 0.9 and weight decay 5e-4, on random pixels, by

* ``ccloss``: ``ccloss.training.loop.train``, its own measure of an epoch's training;
* ``timm``: the training script of timm, unchanged, in a process of its own. It is not in timm's
  wheel: give ``train.py`` of the source that belongs to the installed version;
* ``lightning``: a Lightning Trainer with the logger, the progress bar and the checkpoints it has;
* ``loop``: a loop over a DataLoader as tutorials have it;
* ``bare``: the shortest loop over tensors in memory (``benchmarks/loop_overhead.py``); in fp32 and
  on the CPU only.

Lightning and the loop take images from memory as torchvision's CIFAR100 does (a PIL image a sample,
its random crop, flip, ToTensor, Normalize), with as many loader workers as there are cores. timm's
script reads PNG files with its default of 4 workers. 32 px: 3 channels, 100 classes, random crop
after padding by 4, and flip. 24 px: 1 channel, 10 classes, neither, as the MNIST protocol has it.

Each rival is measured in two settings. ``defaults`` is what it does by itself: fp32, NCHW, the
plain optimiser. ``same`` has ccloss's memory format (channels last), precision and fused SGD.
ccloss itself has one setting a precision: fp32, and bf16 where the device has instructions for it.

timm's options: the network, data, sizes, optimiser (``--opt momentum``: SGD without Nesterov),
``--smoothing 0`` for plain cross-entropy, no validation, and a log line a step. timm has no crop
after padding; its default, a random resized crop, stands for it (``--no-aug`` at 24 px), and its
colour jitter, which no other has, is off (``--color-jitter-prob 0``). ``same`` adds
``--channels-last --opt-kwargs fused=True``, and ``--amp --amp-dtype bfloat16`` in bf16. Of each
line ``Train: 0 [ 3/16 ( 25%)] ... Time: 1.234s, ...`` the first time is read, that of the step with
the wait for its data; those of the timed steps are added up, and the process is then ended.

What is timed are ``--steps`` steps: of the rivals after ``--warmup`` steps and well before their
data end, so that no start of workers counts and loading goes on meanwhile; of ccloss the second of
two epochs of so many steps, whole but for its evaluation. The bare loop is timed from its first
step, after one of the warm-up's length (``benchmarks/loop_overhead.py`` compares it more exactly).
On CUDA all wait for the device. Each measurement has a process of its own. A repetition measures
all in an order drawn anew, and ratios are taken within it.
"""

import argparse
import contextlib
import dataclasses
import hashlib
import io
import json
import logging
import multiprocessing
import os
import random
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from importlib import import_module, metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from benchmarks.loop_overhead import bare, random_data
from ccloss.bench.experiment import Experiment
from ccloss.models import Classifier, build_model
from ccloss.training.config import RunConfig
from ccloss.training.devices import default_precision
from ccloss.training.loop import train
from ccloss.training.provenance import provenance
from ccloss.training.records import RunFolder

ROOT = Path(__file__).parents[1]
BATCH = 32
MEAN, STD = 0.5, 0.25
"""Of pixels, in every channel: they have to be given, and cost the same whatever they are."""
SPARE = 8
"""Batches behind the timed steps: as many as 4 workers fetch ahead."""
OURS = "ccloss"


class Case(NamedTuple):
    """What is trained: its protocol says the size, the crop and the flip."""

    config: RunConfig
    channels: int
    classes: int

    @property
    def backbone(self) -> str:
        return self.config.backbone

    @property
    def size(self) -> int:
        return self.config.image_size

    @property
    def padding(self) -> int:
        return self.config.padding

    @property
    def flip(self) -> float:
        return self.config.flip


CASES = {
    f"{backbone}-{size}px": Case(
        Experiment(data=data, loss="ce", backbone=backbone, batch_size=BATCH).resolve(),
        channels,
        classes,
    )
    for data, size, channels, classes in (("cifar100", 32, 3, 100), ("mnist", 24, 1, 10))
    for backbone in ("resnet18", "vgg16")
}


class Setting(NamedTuple):
    """How a tool is asked to train."""

    channels_last: bool
    fused: bool
    precision: Literal["fp32", "bf16"]


SETTINGS = {
    "defaults": Setting(channels_last=False, fused=False, precision="fp32"),
    "same fp32": Setting(channels_last=True, fused=True, precision="fp32"),
    "same bf16": Setting(channels_last=True, fused=True, precision="bf16"),
}


class Plan(NamedTuple):
    """How long and where."""

    warmup: int
    steps: int
    device: str
    timm_script: Path | None

    @property
    def last(self) -> int:
        """Steps until the clock stops."""
        return self.warmup + self.steps

    @property
    def images(self) -> int:
        """Training images of a rival."""
        return (self.last + SPARE) * BATCH


class Entry(NamedTuple):
    """A tool in a setting."""

    tool: str
    setting: str


class Stopwatch:
    """The time of the steps after the warm-up."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.steps = 0
        self.moments: list[float] = []

    def step(self) -> None:
        """Says that a step has been taken."""
        self.steps += 1
        if self.steps in (self.plan.warmup, self.plan.last):
            if self.plan.device != "cpu":
                torch.accelerator.synchronize()
            self.moments.append(time.perf_counter())

    @property
    def stopped(self) -> bool:
        return len(self.moments) == 2

    @property
    def seconds(self) -> float:
        started, ended = self.moments
        return ended - started


# ---- what rivals share -----------------------------------------------------------------------


class ImagesInMemory(Dataset[tuple[Tensor, int]]):
    """Images and labels as torchvision's CIFAR100 and MNIST hold and hand them out."""

    def __init__(self, case: Case, count: int) -> None:
        self.pixels = random_pixels(case, count)
        self.targets = [number % case.classes for number in range(count)]
        steps: list[Any] = []
        if case.padding:
            steps.append(transforms.RandomCrop(case.size, padding=case.padding))
        if case.flip:
            steps.append(transforms.RandomHorizontalFlip(case.flip))
        steps.append(transforms.ToTensor())
        steps.append(transforms.Normalize([MEAN] * case.channels, [STD] * case.channels))
        self.transform = transforms.Compose(steps)

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image: Tensor = self.transform(Image.fromarray(self.pixels[index]))
        return image, self.targets[index]


def random_pixels(case: Case, count: int) -> NDArray[np.uint8]:
    """(count, H, W, 3), or (count, H, W) if gray."""
    shape = (count, case.size, case.size, case.channels)[: 4 if case.channels > 1 else 3]
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def data_loader(case: Case, plan: Plan) -> DataLoader[tuple[Tensor, int]]:
    return DataLoader(
        ImagesInMemory(case, plan.images),
        batch_size=BATCH,
        shuffle=True,
        num_workers=os.cpu_count() or 1,
        pin_memory=plan.device != "cpu",
        drop_last=True,
    )


def network(case: Case, setting: Setting) -> Classifier:
    torch.manual_seed(0)
    model = build_model(case.backbone, case.classes, case.channels, case.size, attention=False)
    return model.to(memory_format=torch.channels_last) if setting.channels_last else model


def optimizer(model: nn.Module, setting: Setting) -> torch.optim.SGD:
    return torch.optim.SGD(
        model.parameters(),
        lr=0.1,
        momentum=0.9,
        weight_decay=5e-4,
        fused=True if setting.fused else None,  # None leaves torch its own choice
    )


def laid_out(images: Tensor, setting: Setting) -> Tensor:
    return images.to(memory_format=torch.channels_last) if setting.channels_last else images


# ---- the tools: seconds of the timed steps ---------------------------------------------------


def ccloss_seconds(case: Case, setting: Setting, plan: Plan) -> float:
    config = dataclasses.replace(
        case.config, precision=setting.precision, epochs=2, evaluate_every=2
    )
    data = random_data(config, case.channels, case.classes, plan.steps)
    with tempfile.TemporaryDirectory() as place:
        folder = RunFolder(Path(place) / "run")
        train(config, folder, data)
        return float(folder.read_metrics()[-1]["train_seconds"])


def bare_seconds(case: Case, setting: Setting, plan: Plan) -> float:
    bare(case.config, random_data(case.config, case.channels, case.classes, plan.warmup))
    data = random_data(case.config, case.channels, case.classes, plan.steps)
    return bare(case.config, data)


def loop_seconds(case: Case, setting: Setting, plan: Plan) -> float:
    device = torch.device(plan.device)
    model = network(case, setting).to(device).train()
    sgd = optimizer(model, setting)
    watch = Stopwatch(plan)
    total = 0.0
    for images, labels in data_loader(case, plan):
        images, labels = laid_out(images.to(device), setting), labels.to(device)
        with torch.autocast(device.type, torch.bfloat16, enabled=setting.precision == "bf16"):
            loss = F.cross_entropy(model(images).logits, labels)
        sgd.zero_grad()
        loss.backward()
        sgd.step()
        total += loss.item()
        watch.step()
        if watch.stopped:
            break
    return watch.seconds


def lightning_seconds(case: Case, setting: Setting, plan: Plan) -> float:
    with warnings.catch_warnings(), tempfile.TemporaryDirectory() as place:
        warnings.simplefilter("ignore")  # so few steps are not what it expects
        lightning = import_module("lightning.pytorch")
        logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
        watch = Stopwatch(plan)

        class Module(lightning.LightningModule):  # type: ignore[misc, name-defined]
            def __init__(self) -> None:
                super().__init__()
                self.network = network(case, setting)

            def training_step(self, batch: list[Tensor], _: int) -> Tensor:
                images, labels = batch
                loss = F.cross_entropy(self.network(laid_out(images, setting)).logits, labels)
                self.log("train_loss", loss, prog_bar=True)
                return loss

            def configure_optimizers(self) -> torch.optim.Optimizer:
                return optimizer(self.network, setting)

        class Watch(lightning.Callback):  # type: ignore[misc, name-defined]
            def on_train_batch_end(self, *_: Any) -> None:
                watch.step()

        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            trainer = lightning.Trainer(
                accelerator="cpu" if plan.device == "cpu" else "gpu",
                devices=1,
                max_epochs=1,
                limit_train_batches=plan.last,
                precision="bf16-mixed" if setting.precision == "bf16" else "32-true",
                default_root_dir=place,
                callbacks=[Watch()],
            )
            trainer.fit(Module(), data_loader(case, plan))
        return watch.seconds


def timm_seconds(case: Case, setting: Setting, plan: Plan) -> float:
    assert plan.timm_script is not None
    with tempfile.TemporaryDirectory() as place:
        write_images(Path(place) / "data" / "train", case, plan.images)
        command = [sys.executable, str(plan.timm_script.resolve())]
        command += timm_options(case, setting, plan.device)
        times = logged_seconds(command, Path(place), plan.last)
    return sum(times[plan.warmup :])


def write_images(folder: Path, case: Case, count: int) -> None:
    """A folder of PNG files a class."""
    for number, pixels in enumerate(random_pixels(case, count)):
        path = folder / f"{number % case.classes:03d}" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)


def timm_options(case: Case, setting: Setting, device: str) -> list[str]:
    """The command line of timm's script; paths are relative to where it runs."""
    normalisation = ["--mean", *[str(MEAN)] * case.channels, "--std", *[str(STD)] * case.channels]
    options = f"""
        --device {device} --device-modules benchmarks.timm_models --data-dir data --output out
        --val-split= --model ccloss_{case.backbone} --model-kwargs image_size={case.size}
        --num-classes {case.classes} --input-size {case.channels} {case.size} {case.size}
        --batch-size {BATCH} --epochs 1 --warmup-epochs 0 --log-interval 1 --smoothing 0
        --opt momentum --lr 0.1 --momentum 0.9 --weight-decay 5e-4
    """.split()
    options += normalisation
    if case.padding or case.flip:
        options += ["--hflip", str(case.flip), "--color-jitter-prob", "0"]
    else:
        options += ["--no-aug"]
    if setting.channels_last:
        options += ["--channels-last"]
    if setting.fused:
        options += ["--opt-kwargs", "fused=True"]
    if setting.precision == "bf16":
        options += ["--amp", "--amp-dtype", "bfloat16"]
    return options


def logged_seconds(command: Sequence[str], place: Path, steps: int) -> list[float]:
    """The times of the first steps that a training script logs; it is ended after them."""
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    process = subprocess.Popen(
        command,
        cwd=place,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,  # a group of its own, its loader workers with it
    )
    assert process.stdout is not None
    said: deque[str] = deque(maxlen=20)
    times: list[float] = []
    try:
        for line in process.stdout:
            said.append(line)
            times += filter(None, [step_seconds(line)])
            if len(times) == steps:
                return times
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.stdout.close()
        process.wait()
    raise RuntimeError(f"timm's script ended after {len(times)} steps:\n{''.join(said)}")


STEP_LINE = re.compile(r"Train: \d+ \[ *\d+/\d+ .*?\bTime: (\d+\.\d+)s")


def step_seconds(line: str) -> float | None:
    """The time of a step from a line of timm's log; ``None`` if it is another line."""
    found = STEP_LINE.search(line)
    return float(found[1]) if found else None


TOOLS: dict[str, Callable[[Case, Setting, Plan], float]] = {
    OURS: ccloss_seconds,
    "timm": timm_seconds,
    "lightning": lightning_seconds,
    "loop": loop_seconds,
    "bare": bare_seconds,
}
RIVALS = [tool for tool in TOOLS if tool != OURS]


# ---- the measurement ---------------------------------------------------------------------------


def missing(rival: str, plan: Plan) -> str | None:
    """Why a rival cannot take part, if it cannot."""
    if rival == "timm" and plan.timm_script is None:
        return "timm left out: give its train.py with --timm-script"
    if rival == "lightning" and find_spec("lightning") is None:
        return "lightning left out: it is not installed (pip install lightning)"
    if rival == "bare" and plan.device != "cpu":
        return "bare left out: it trains on the CPU only"
    return None


def precisions() -> list[str]:
    """Those that the device is made for: ccloss by itself takes the last."""
    return ["fp32", "bf16"] if default_precision() == "bf16" else ["fp32"]


def entries(rivals: Sequence[str]) -> list[Entry]:
    """Every tool in every setting that it has."""
    same = [f"same {precision}" for precision in precisions()]
    settings = {OURS: same, "bare": ["same fp32"]}
    return [
        Entry(tool, setting)
        for tool in (OURS, *rivals)
        for setting in settings.get(tool, ["defaults", *same])
    ]


def in_new_process(entry: Entry, case: Case, plan: Plan) -> float:
    """Seconds of the timed steps. A tool finds no memory, threads or workers of another."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(TOOLS[entry.tool], case, SETTINGS[entry.setting], plan).result()


Seconds = dict[Entry, list[float]]


def measure(
    case: Case, plan: Plan, which: Sequence[Entry], repetitions: int, shuffler: random.Random
) -> Iterator[Seconds]:
    """All seconds so far, after every repetition."""
    seconds: Seconds = {entry: [] for entry in which}
    order = list(which)
    for _ in range(repetitions):
        shuffler.shuffle(order)
        for entry in order:
            seconds[entry].append(in_new_process(entry, case, plan))
        yield seconds


def ratios(seconds: Seconds) -> dict[str, dict[str, list[float]]]:
    """Rival and setting -> precision of ccloss -> its images/s over the rival's, a repetition each.

    A rival's defaults are compared with every precision of ccloss, the others with their own.
    """
    result: dict[str, dict[str, list[float]]] = {}
    for rival, theirs in seconds.items():
        for own, ours in seconds.items():
            comparable = rival.setting in ("defaults", own.setting)
            if own.tool == OURS and rival.tool != OURS and comparable:
                pairs = zip(theirs, ours, strict=True)
                precision = SETTINGS[own.setting].precision
                named = result.setdefault(", ".join(rival), {})
                named[precision] = [their / our for their, our in pairs]
    return result


def summary(seconds: Seconds, steps: int) -> dict[str, Any]:
    """A case as it is written: raw seconds and what follows from them."""
    found = ratios(seconds)
    return {
        "seconds": {", ".join(entry): times for entry, times in seconds.items()},
        "median_images_per_second": {
            ", ".join(entry): steps * BATCH / statistics.median(times)
            for entry, times in seconds.items()
        },
        "ratios": found,
        "median_ratios": {
            rival: {precision: statistics.median(values) for precision, values in named.items()}
            for rival, named in found.items()
        },
    }


def text(result: dict[str, Any]) -> str:
    """One line: ccloss's images/s, and how many times a rival's they are."""
    own = [
        f"{entry.removeprefix(f'{OURS}, same ')} {speed:.1f} images/s"
        for entry, speed in result["median_images_per_second"].items()
        if entry.startswith(OURS)
    ]
    parts = [
        f"{rival} {' and '.join(f'{value:.2f}' for value in named.values())}"
        for rival, named in result["median_ratios"].items()
    ]
    return f"{OURS} {', '.join(own)}; times {'; '.join(parts)}"


def heading(plan: Plan, left_out: Sequence[str]) -> dict[str, Any]:
    """What was measured where, with what."""
    cuda = plan.device != "cpu"
    script = plan.timm_script
    return {
        "batch": BATCH,
        "warmup": plan.warmup,
        "steps": plan.steps,
        "workers": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "provenance": provenance(torch.cuda.get_device_name() if cuda else "cpu"),
        "lightning": metadata.version("lightning") if find_spec("lightning") else None,
        "timm_script_sha256": script and hashlib.sha256(script.read_bytes()).hexdigest(),
        "settings": {name: setting._asdict() for name, setting in SETTINGS.items()},
        "left_out": list(left_out),
    }


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--timm-script", type=Path)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--rivals", nargs="+", choices=RIVALS, default=RIVALS)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--warmup", type=int, default=2, help="steps; at least 1")
    parser.add_argument("--steps", type=int, default=4, help="timed steps")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    arguments = parser.parse_args()
    if min(arguments.warmup, arguments.steps, arguments.repetitions) < 1:
        parser.error("--warmup, --steps and --repetitions must be at least 1")
    if (arguments.device == "cuda") != torch.cuda.is_available():
        # ccloss trains where the machine is fastest, so the others have to be there too.
        parser.error("--device must be cuda where there is one; hide it to measure the CPU")
    return arguments


def main() -> None:
    """Measures every case, prints a line after each repetition, writes the raw times."""
    arguments = parse()
    plan = Plan(arguments.warmup, arguments.steps, arguments.device, arguments.timm_script)
    reasons = {rival: missing(rival, plan) for rival in arguments.rivals}
    left_out = [reason for reason in reasons.values() if reason]
    print("\n".join(left_out), end="\n" if left_out else "", flush=True)
    which = entries([rival for rival, reason in reasons.items() if not reason])
    content = {**heading(plan, left_out), "cases": {}}
    shuffler = random.Random(0)
    for name in arguments.cases:
        for seconds in measure(CASES[name], plan, which, arguments.repetitions, shuffler):
            content["cases"][name] = summary(seconds, plan.steps)
            arguments.out.write_text(json.dumps(content, indent=1) + "\n")  # cases take minutes
            done = len(seconds[which[0]])
            print(f"{name}, {done} of {arguments.repetitions}: ", end="")
            print(text(content["cases"][name]), flush=True)


if __name__ == "__main__":
    main()
