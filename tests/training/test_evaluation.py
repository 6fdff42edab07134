"""Evaluation after training agrees with the record of the run."""

import dataclasses

import pytest
import torch

from ccloss.data.images import MemoryImages
from ccloss.errors import InputError
from ccloss.training.components import load_data
from ccloss.training.evaluation import evaluate, load_model
from ccloss.training.loop import train
from ccloss.training.records import RunFolder
from small_runs import Listener, small_config, small_data

DATA = small_data()


def test_record_agrees_with_the_saved_weights(finished_run: RunFolder) -> None:
    record = finished_run.read_record()
    model = load_model(finished_run)
    with torch.no_grad():
        logits = model(DATA.test.pixels).logits  # uint8: the model normalises by itself
    correct = (logits.argmax(1) == DATA.test.labels).double().mean()
    assert record.accuracy == pytest.approx(100 * correct.item())
    assert record.evaluation["images"] == 50
    assert record.evaluation["split"] == "test"
    assert record.steps == 12
    assert record.parameters == sum(p.numel() for p in model.parameters())
    assert record.provenance["versions"]["torch"] == torch.__version__.split("+")[0]


def test_evaluation_again_gives_the_record(finished_run: RunFolder) -> None:
    evaluation = evaluate(finished_run, DATA)
    assert {"split": "test", **evaluation} == finished_run.read_record().evaluation


def test_evaluation_on_other_data_is_rejected(finished_run: RunFolder) -> None:
    other = dataclasses.replace(small_config())
    data = load_data(other)._replace(classes=("a", "b"))
    with pytest.raises(InputError, match="evaluate on the run's own data"):
        evaluate(finished_run, data)


def test_damaged_weights_are_reported(folder: RunFolder) -> None:
    train(small_config(epochs=1), folder, DATA)
    folder.model.write_bytes(folder.model.read_bytes()[:-10])
    with pytest.raises(InputError, match=r"model\.safetensors cannot be read"):
        load_model(folder)


def test_changed_test_images_are_rejected_unless_allowed(finished_run: RunFolder) -> None:
    pixels = DATA.test.pixels.clone()
    pixels[0, 0, 0, 0] ^= 1
    changed = DATA._replace(test=MemoryImages(pixels, DATA.test.labels))
    with pytest.raises(InputError, match="the test images of digits are not those of the run"):
        evaluate(finished_run, changed)
    reporter = Listener()
    evaluate(finished_run, changed, allow_changed_data=True, reporter=reporter)
    assert reporter.warnings == ["the test images of digits are not those of the run"]
