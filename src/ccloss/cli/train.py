"""``ccloss train`` and ``ccloss evaluate``."""

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

from ccloss.bench.experiment import Experiment
from ccloss.cli.console import is_main_process, print_line, print_table, progress_reporter
from ccloss.cli.parameters import ConfigFile, DataRoot, ExperimentFields
from ccloss.data.catalog import resolve_data_name
from ccloss.training.config import RunConfig
from ccloss.training.files import to_json
from ccloss.training.records import RunFolder


def train(
    *,
    experiment: ExperimentFields = Experiment(),
    out: Path = Path("runs/train"),
    data_root: DataRoot = None,
    resume: bool = False,
    overwrite: bool = False,
    allow_changed_data: bool = False,
    workers: int | None = None,
    trackers: str = "",
    config: ConfigFile = None,
    print_config: bool = False,
) -> None:
    """Train one network. Options of the loss are given as --loss.OPTION, e.g. --loss.weight 0.5.

    Args:
        experiment: Settings of the run, one option per field.
        out: Folder of the run.
        data_root: Folder with the data. Without it they are downloaded from the Hugging Face Hub.
        resume: Continue from the last checkpoint.
        overwrite: Delete the run in the folder and train again.
        allow_changed_data: Continue, with a warning, if the images have changed.
        workers: Processes that decode large images. By default as many as the cores allow.
        trackers: Experiment trackers, separated by commas: wandb, mlflow, tensorboard, or others of
            Accelerate.
        config: File with settings of the run, which other options override: a .toml file, or the
            experiment.json of a run. Fields that an older experiment.json does not have take the
            values that the older version used.
        print_config: Print the complete settings as JSON, which --config reads, and train nothing.
    """
    from ccloss.bench.campaign.plan import resolve_for
    from ccloss.training import loop
    from ccloss.training.components import load_data

    folder = RunFolder(out)
    run = resolve_for(experiment, folder, data_root)
    if print_config:
        print(to_json(run.to_dict()).decode(), end="")
        return
    loop.check_folder(folder, run, resume, overwrite)  # before a download
    reporter = progress_reporter()
    dataset = load_data(run, data_root, reporter)
    record = loop.train(
        run,
        folder,
        dataset,
        resume=resume,
        overwrite=overwrite,
        allow_changed_data=allow_changed_data,
        workers=workers,
        trackers=[name.strip() for name in trackers.split(",") if name.strip()],
        reporter=reporter,
    )
    if is_main_process():
        _print_evaluation(record.method, record.evaluation)
        print_line(f"run folder: {out}")


def evaluate(
    run: Path,
    /,
    *,
    split: Literal["test", "validation"] | None = None,
    data: str | None = None,
    data_root: DataRoot = None,
    allow_changed_data: bool = False,
    allow_missing_classes: bool = False,
    workers: int | None = None,
) -> None:
    """Evaluate the network of a finished run.

    Args:
        run: Folder of the run.
        split: Images to evaluate on: test, or validation if the run has held out training images.
            By default those that the run was evaluated on.
        data: Where the data are now, if not where the run has found them.
        data_root: Folder with the data. Without it they are downloaded from the Hugging Face Hub.
        allow_changed_data: Continue, with a warning, if the test images have changed.
        allow_missing_classes: Accept data with classes that only one split has.
        workers: Processes that decode large images. By default as many as the cores allow.
    """
    folder = RunFolder(run)
    record = folder.read_record()

    from ccloss.training.components import load_data
    from ccloss.training.evaluation import config_of_split
    from ccloss.training.evaluation import evaluate as evaluate_run

    reporter = progress_reporter()
    config = RunConfig.from_dict(record.experiment)
    config = dataclasses.replace(
        config,
        data=config.data if data is None else resolve_data_name(data),
        allow_missing_classes=config.allow_missing_classes or allow_missing_classes,
    )
    split = split or record.evaluation["split"]
    dataset = load_data(config_of_split(config, split), data_root, reporter)
    evaluation = evaluate_run(
        folder,
        dataset,
        split=split,
        allow_changed_data=allow_changed_data,
        workers=workers,
        reporter=reporter,
    )
    if is_main_process():
        _print_evaluation(record.method, {"split": split, **evaluation})


_PERCENTAGES = ("accuracy", "top5", "calibration_error", "merged_pairs")
"""Endings of the names of metrics in %."""


def _print_evaluation(method: str, evaluation: dict[str, Any]) -> None:
    print_table(("metric", method), _rows(evaluation))


def _rows(evaluation: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for name, value in evaluation.items():
        if name == "class_accuracy":
            known = [each for each in value if each is not None]
            yield "worst class accuracy", f"{min(known):.2f} %"
        elif name == "class_attention_mass":
            known = [each for each in value or [] if each is not None]
            text = f"{min(known):.3f} to {max(known):.3f}" if known else "–"
            yield "attention mass of a class", text
        elif name == "calibration_bins":
            continue  # the calibration error summarizes them
        elif isinstance(value, float):
            unit = " %" if name.endswith(_PERCENTAGES) else ""
            yield name.replace("_", " "), f"{value:.2f}{unit}" if unit else f"{value:.4f}"
        else:
            yield name.replace("_", " "), "–" if value is None else str(value)
