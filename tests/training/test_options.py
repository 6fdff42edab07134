"""Training options: each has its effect, and a resumed run ends as one that was not interrupted."""

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from ccloss.errors import InputError
from ccloss.losses import LOSSES
from ccloss.training.components import build_components, load_data
from ccloss.training.loop import train
from ccloss.training.records import RunFolder
from processes import FORKS
from small_runs import Interrupted, Listener, small_config, small_data, weights

DATA = small_data()

TOGETHER = {
    "optimizer": "adamw", "learning_rate": 0.01, "warmup_epochs": 1, "mixup": 0.4, "cutmix": 1.0,
    "ema_decay": 0.8, "accumulation_steps": 3, "backbone_rate_factor": 0.5,
    "freeze_backbone_epochs": 1, "clip_grad_norm": 1.0, "epochs": 4,
}  # fmt: skip


def run_interrupted(path: Path, fields: dict[str, Any], epochs: int) -> RunFolder:
    """A run that is interrupted after some epochs and resumed."""
    folder, config = RunFolder(path), small_config(**fields)
    data = load_data(config)
    with pytest.raises(Interrupted):
        train(config, folder, data, workers=0, reporter=Listener(interrupt_after=epochs))
    train(config, folder, data, workers=0, resume=True)
    return folder


@pytest.mark.parametrize(
    "fields",
    [
        TOGETHER,
        {"trivial_augment": True, "random_resized_crop": 0.3, "random_erasing": 0.5},
        {"sampler": "class-balanced", "schedule": "step", "decay_epochs": 1, "optimizer": "lamb"},
        {"select": "best", "validation": 0.3, "learning_rate": 0.5, "nesterov": True},
        {"freeze_backbone_epochs": 1, "epochs": 3},
    ],
    ids=["together", "transforms", "sampler", "best", "frozen"],
)
def test_resumed_run_ends_in_the_same_weights(tmp_path: Path, fields: dict[str, Any]) -> None:
    whole, config = RunFolder(tmp_path / "whole"), small_config(**fields)
    record = train(config, whole, load_data(config), workers=0)
    resumed = run_interrupted(tmp_path / "resumed", fields, epochs=2)
    assert weights(resumed) == weights(whole)
    assert resumed.read_record().evaluation == record.evaluation
    terms = [[line["terms"] for line in folder.read_metrics()] for folder in (whole, resumed)]
    assert terms[0] == terms[1]


def _train_together(path: Path) -> None:
    torch.set_num_threads(1)
    train(small_config(**TOGETHER), RunFolder(path), DATA, resume=True)


def test_killed_run_with_options_ends_in_the_same_weights(tmp_path: Path) -> None:
    whole, killed = RunFolder(tmp_path / "whole"), RunFolder(tmp_path / "killed")
    train(small_config(**TOGETHER), whole, DATA)
    process = FORKS.Process(target=_train_together, args=(killed.path,), daemon=True)
    process.start()
    while process.is_alive() and not list(killed.path.glob("checkpoints/epoch-*")):
        process.join(0.01)
    process.kill()
    process.join()
    train(small_config(**TOGETHER), killed, DATA, resume=not killed.finished, overwrite=False)
    assert weights(killed) == weights(whole)


# ---- optimisers ----------------------------------------------------------------------------------


@pytest.mark.parametrize("nesterov", [False, True])
def test_sgd_with_a_frozen_backbone_makes_the_steps_of_plain_sgd(nesterov: bool) -> None:
    config = small_config(freeze_backbone_epochs=1, nesterov=nesterov)
    run = build_components(config, DATA, 0, print)
    plain = copy.deepcopy(run.model)
    reference = torch.optim.SGD(
        plain.parameters(),
        lr=config.learning_rate,
        momentum=config.momentum,
        weight_decay=config.weight_decay,
        nesterov=nesterov,
        foreach=False,
    )
    for frozen in (True, True, False, False):
        for model, optimizer in ((run.model, run.state.optimizer), (plain, reference)):
            model.backbone.requires_grad_(not frozen)
            optimizer.zero_grad()
            model.eval()(torch.ones(2, 1, 8, 8)).logits.logsumexp(1).sum().backward()
            optimizer.step()
    for own, expected in zip(run.model.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(own, expected)


# ---- networks ------------------------------------------------------------------------------------


def test_frozen_backbone_does_not_change(folder: RunFolder) -> None:
    config = small_config(freeze_backbone_epochs=3)
    run = build_components(config, DATA, 0, print)
    start = {name: value.clone() for name, value in run.model.state_dict().items()}
    train(config, folder, DATA)
    trained = load_file(folder.model)
    changed = {name for name, value in start.items() if not torch.equal(trained[name], value)}
    assert not any(name.startswith("backbone.") for name in changed)
    assert {"head.hidden.weight", "head.classify.weight"} <= changed


def test_average_is_evaluated_and_saved(folder: RunFolder) -> None:
    record = train(small_config(ema_decay=0.5, epochs=1), folder, DATA)
    assert 0 <= record.evaluation["unaveraged_accuracy"] <= 100
    (checkpoint,) = folder.checkpoints.iterdir()
    state = load_file(checkpoint)
    saved = load_file(folder.model)
    name = "head.hidden.weight"
    assert torch.equal(saved[name], state[f"average.module.{name}"])
    assert not torch.equal(saved[name], state[f"model.{name}"])


def test_best_epoch_on_validation_images_is_selected(folder: RunFolder) -> None:
    config = small_config(select="best", validation=0.3, learning_rate=0.5, epochs=5)
    record = train(config, folder, load_data(config))
    accuracies = [line["evaluation"]["accuracy"] for line in folder.read_metrics()]
    assert record.accuracy == max(accuracies)
    assert record.evaluation["split"] == "validation"
    assert record.evaluation["epoch"] == accuracies.index(max(accuracies)) + 1


@pytest.mark.parametrize("loss", [name for name in LOSSES if not LOSSES[name].takes_soft_labels])
def test_loss_of_one_class_per_image_is_rejected_with_mixing(folder: RunFolder, loss: str) -> None:
    with pytest.raises(
        InputError, match=f"cutmix needs a loss that accepts soft labels, and loss '{loss}'"
    ):
        train(small_config(loss=loss, cutmix=1.0), folder, DATA)
    assert not folder.path.exists()


@pytest.mark.parametrize("loss", [name for name in LOSSES if LOSSES[name].takes_soft_labels])
def test_other_losses_take_mixed_labels(folder: RunFolder, loss: str) -> None:
    options = {"mixup": 1.0, "cutmix": 1.0, "max_steps": 2, "evaluate_every": 9}
    train(small_config(loss=loss, **options), folder, DATA)
    assert 0 <= folder.read_metrics()[0]["train_accuracy"] <= 100


# ---- where a run starts --------------------------------------------------------------------------


def test_weights_that_fit_are_taken_and_the_others_are_reported(
    finished_run: RunFolder, tmp_path: Path
) -> None:
    stored = load_file(finished_run.model)
    other_classes = {**stored, "head.classify.weight": torch.zeros(7, 16)}
    file = tmp_path / "weights.safetensors"
    save_file(other_classes, file)
    warnings: list[str] = []
    run = build_components(small_config(init_from=str(file)), DATA, 0, warnings.append)
    for name, value in run.model.state_dict().items():
        assert torch.equal(value, stored[name]) == (name != "head.classify.weight"), name
    (warning,) = warnings
    assert "these differ in name or shape and " in warning
    assert warning.endswith(" and keep their initial values: head.classify.weight")
    assert len(run.origin["initial_weights"]["sha256"]) == 64


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("nowhere/at/all", "nowhere/at/all does not exist; give a run folder"),
        ("", "model.safetensors cannot be read"),
        ("weights.safetensors", "has no weights for this backbone"),
    ],
)
def test_bad_sources_of_weights_are_one_line(tmp_path: Path, source: str, message: str) -> None:
    save_file({"other": torch.zeros(1)}, tmp_path / "weights.safetensors")
    name = source if "nowhere" in source else str(tmp_path / source)
    with pytest.raises(InputError, match=message):
        build_components(small_config(init_from=name), DATA, 0, print)


def test_continued_run_goes_on_as_one_run_would(tmp_path: Path) -> None:
    """With a constant learning rate, two epochs and one more are three, but for the order."""
    fields = {"schedule": "constant", "optimizer": "adamw", "learning_rate": 0.01}
    parent, child = RunFolder(tmp_path / "parent"), RunFolder(tmp_path / "child")
    train(small_config(**fields, epochs=2), parent, DATA)
    config = small_config(**fields, epochs=1, continue_from=str(parent.path))
    run = build_components(config, DATA, 0, print)
    state = load_file(parent.checkpoints / "epoch-0002.safetensors")
    for name, value in run.model.state_dict().items():
        assert torch.equal(value, state[f"model.{name}"])
    first = run.state.optimizer.param_groups[0]["params"][0]
    moments = run.state.optimizer.state[first]
    assert torch.equal(moments["exp_avg"], state["optimizer.0.exp_avg"])
    assert moments["step"] == 8
    record = train(config, child, DATA)
    named = record.provenance["parent"]
    assert (named["run"], named["epoch"], named["step"]) == (str(parent.path), 2, 8)
    assert record.steps == 4


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"optimizer": "adamw"}, "was trained with optimizer sgd, and this run uses adamw"),
        ({"hidden_features": 8}, "another network or loss than this run"),
        ({"continue_from": "nowhere"}, "nowhere"),
    ],
)
def test_run_that_cannot_be_continued_is_one_line(
    finished_run: RunFolder, fields: dict[str, Any], message: str
) -> None:
    config = small_config(**{"continue_from": str(finished_run.path), **fields})
    with pytest.raises(InputError, match=message) as raised:
        build_components(config, DATA, 0, print)
    assert "\n" not in str(raised.value)


# ---- trackers ------------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of TensorBoard itself
def test_trackers_of_accelerate_receive_the_metrics(folder: RunFolder) -> None:
    train(small_config(epochs=1), folder, DATA, trackers=["tensorboard"])
    assert list(folder.trackers.rglob("events.out.tfevents.*"))


def test_tracker_without_its_package_is_one_line(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("accelerate.tracking._available_trackers", [])
    with pytest.raises(InputError, match=r"wandb needs the package wandb.*pip install wandb"):
        train(small_config(), folder, DATA, trackers=["wandb"])
    assert not folder.path.exists()
