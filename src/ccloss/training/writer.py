"""Writing a run's folder while it trains."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from safetensors.torch import save

from ccloss.data.sources import Dataset
from ccloss.training.checkpoint import Progress, remove_newer_checkpoints, save_checkpoint
from ccloss.training.components import Components
from ccloss.training.devices import on_main_process
from ccloss.training.events import EventWriter
from ccloss.training.files import write_atomically
from ccloss.training.metrics import Predictions
from ccloss.training.records import Record, RunFolder
from ccloss.training.sample import make_sample


class RunWriter:
    """Writes metrics, checkpoints and the result of a run.

    Every process calls every method; the main process writes, and all of them get its errors.

    Args:
        folder: of the run. What is newer than ``done`` is removed.
        done: how far the run has come.
    """

    def __init__(self, folder: RunFolder, done: Progress) -> None:
        self._folder = folder
        self._events = on_main_process(lambda: self._start(done))

    def write_epoch(self, line: Mapping[str, Any], run: Components) -> None:
        """Writes the metrics, then the checkpoint. A kill in between costs this epoch."""
        on_main_process(lambda: self._write_epoch(line, run))

    def write_result(
        self,
        make_record: Callable[[], Record],
        run: Components,
        predictions: Predictions,
        training_predictions: Predictions | None,
        dataset: Dataset,
    ) -> Record:
        """Writes weights and samples, then the record, which marks the run as finished.

        Args:
            make_record: called on the main process.
            run: whose weights are written.
            predictions: on the evaluated images.
            training_predictions: on training images, if a sample of them is stored.
            dataset: the images.
        """

        def write() -> Record:
            record = make_record()
            state = run.evaluated.state_dict()
            weights = {key: value.cpu().contiguous() for key, value in state.items()}
            write_atomically(self._folder.model, save(weights))
            for path, found, images in (
                (self._folder.test_sample, predictions, dataset.test),
                (self._folder.train_sample, training_predictions, dataset.train),
            ):
                if found is not None:
                    write_atomically(path, save(make_sample(found, images)))
            self._folder.write_record(record)
            return record

        return on_main_process(write)

    def _start(self, done: Progress) -> EventWriter:
        self._folder.truncate_metrics(done.epoch)
        remove_newer_checkpoints(self._folder.checkpoints, done)
        return EventWriter(self._folder.tensorboard, first_step=done.epoch + 1)

    def _write_epoch(self, line: Mapping[str, Any], run: Components) -> None:
        self._folder.append_metrics(line)
        self._events.add_scalars(line["epoch"], dict(scalars(line)))
        done = Progress(line["epoch"], line["step"])
        save_checkpoint(self._folder.checkpoints, done, run.modules, run.state.optimizer)


def scalars(line: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """A line of metrics as named numbers."""
    for group in ("terms", "evaluation"):
        for name, value in (line[group] or {}).items():
            if isinstance(value, int | float):
                yield f"{group}/{name}", value
    for name in ("learning_rate", "train_accuracy", "images_per_second", "seconds"):
        yield f"training/{name}", line[name]
