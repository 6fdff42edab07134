"""The training loop: metrics, progress, warnings and errors."""

import itertools
import re
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from ccloss.errors import DivergenceError
from ccloss.losses import make_loss
from ccloss.training.components import load_data
from ccloss.training.loop import train
from ccloss.training.records import RunFolder
from ccloss.training.schedules import cosine_learning_rate
from small_runs import Listener, small_config, small_data

DATA = small_data()


def test_metrics_have_a_line_per_epoch_and_every_term(finished_run: RunFolder) -> None:
    lines = finished_run.read_metrics()
    assert [line["epoch"] for line in lines] == [1, 2, 3]
    assert [line["step"] for line in lines] == [4, 8, 12]
    assert set(lines[0]["terms"]) == {"total", "ce", "intra", "inter", "ratio"}
    for line in lines:
        terms = line["terms"]
        assert terms["total"] == pytest.approx(terms["ce"] + terms["ratio"], rel=1e-5)
    evaluation = finished_run.read_record().evaluation
    assert lines[-1]["evaluation"] == {
        name: value for name, value in evaluation.items() if not isinstance(value, list)
    }


def test_progress_shows_terms_accuracy_speed_and_time_left(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ccloss.training.tracking.SYNC_SECONDS", 0)
    reporter = Listener()
    train(small_config(epochs=2), folder, DATA, reporter=reporter)
    pattern = r"total \S+ ce \S+ intra \S+ inter \S+ ratio \S+  "
    pattern += r"train \d+\.\d\d %  \d+ images/s  .* left"
    assert len(reporter.states) == 8
    assert all(re.fullmatch(pattern, state) for state in reporter.states)
    # At the end of an epoch the running accuracy is that of its line.
    line = folder.read_metrics()[0]
    assert f"train {line['train_accuracy']:.2f} %" in reporter.states[3]
    assert reporter.states[-1].endswith("0 s left")


def test_tensorboard_shows_the_same_numbers(finished_run: RunFolder) -> None:
    events = EventAccumulator(str(finished_run.tensorboard))
    events.Reload()
    shown = [event.value for event in events.Scalars("evaluation/accuracy")]
    written = [line["evaluation"]["accuracy"] for line in finished_run.read_metrics()]
    assert shown == pytest.approx(written)


def test_record_has_the_digests_of_the_images(finished_run: RunFolder) -> None:
    assert finished_run.read_record().provenance["data"] == DATA.digests()


def test_max_steps_ends_within_an_epoch_and_shortens_the_schedule(
    folder: RunFolder,
) -> None:
    record = train(small_config(max_steps=6, epochs=300), folder, DATA)
    lines = folder.read_metrics()
    assert record.steps == 6
    assert [line["step"] for line in lines] == [4, 6]
    assert lines[-1]["learning_rate"] == pytest.approx(
        cosine_learning_rate(5, 6, 0.1, 1e-5), rel=1e-9
    )


def test_evaluate_every_skips_evaluations(folder: RunFolder) -> None:
    train(small_config(epochs=4, evaluate_every=3), folder, DATA)
    evaluated = [line["evaluation"] is not None for line in folder.read_metrics()]
    assert evaluated == [False, False, True, True]


def test_validation_images_are_held_out_of_training(folder: RunFolder) -> None:
    config = small_config(validation=0.2, epochs=1)
    data = load_data(config)
    assert (len(data.train), len(data.test)) == (104, 26)  # each image is chosen by itself
    record = train(config, folder, data)
    assert record.evaluation["split"] == "validation"
    assert record.evaluation["images"] == 26


def test_infinite_loss_stops_the_run(folder: RunFolder) -> None:
    config = small_config(learning_rate=1e12, final_learning_rate=1e12)
    with pytest.raises(
        DivergenceError, match=r"not finite at step \d+ \(epoch \d\): total"
    ) as raised:
        train(config, folder, DATA)
    assert "try a lower learning rate" in str(raised.value)
    assert not folder.finished


def test_divergence_names_the_first_bad_step(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = itertools.count(1)
    terms = make_loss("ce").terms

    def broken(self: Any, output: Any, labels: Any) -> Any:
        factor = float("nan") if next(calls) >= 6 else 1.0
        return {name: value * factor for name, value in terms(output, labels).items()}

    monkeypatch.setattr("ccloss.losses.cross_entropy.CrossEntropyLoss.terms", broken)
    with pytest.raises(DivergenceError, match=r"step 6 \(epoch 2\): total nan ce nan"):
        train(small_config(loss="ce"), folder, DATA)
    assert [path.name for path in folder.checkpoints.iterdir()] == ["epoch-0001.safetensors"]


def test_collapse_of_attention_is_a_warning(folder: RunFolder) -> None:
    reporter = Listener()
    config = small_config(epochs=2, loss_options={"eps": 1e9})
    record = train(config, folder, DATA, reporter=reporter)
    assert "attention has collapsed" in reporter.warnings[0]
    assert record.warnings == reporter.warnings


def test_bf16_trains_and_warns_if_it_is_slow(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ccloss.training.components.has_bf16", lambda device: False)
    config = small_config(precision="bf16", epochs=1, max_steps=2)
    record = train(config, folder, DATA)
    assert any("no bf16 instructions" in warning for warning in record.warnings)
    assert all(torch.isfinite(value).all() for value in load_file(folder.model).values())
