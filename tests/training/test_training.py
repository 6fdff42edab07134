"""The loop: against a bare one, after kills, and in the face of what goes wrong."""

import dataclasses
import itertools
import multiprocessing
import os
import random
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from ccloss.data.images import fingerprint, statistics
from ccloss.data.loader import train_loader
from ccloss.errors import DivergenceError, InputError
from ccloss.losses import make_loss
from ccloss.models import build_model
from ccloss.training import devices
from ccloss.training.components import load_data
from ccloss.training.evaluation import evaluate, load_model
from ccloss.training.loop import train
from ccloss.training.records import RunFolder
from ccloss.training.sample import thumbnail
from ccloss.training.step import cosine_learning_rate
from runs import Interrupted, Listener, content, small_config, small_data, weights

DATA = small_data()


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path / "run")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run that nothing has disturbed."""
    folder = RunFolder(tmp_path_factory.mktemp("whole") / "run")
    train(small_config(), folder, DATA)
    return folder


def test_learning_rate_is_torch_s_cosine() -> None:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=50, eta_min=1e-5)
    for step in range(50):
        expected = optimizer.param_groups[0]["lr"]
        assert cosine_learning_rate(step, 50, 0.1, 1e-5) == pytest.approx(expected, rel=1e-9)
        optimizer.step()
        schedule.step()


@pytest.mark.parametrize("loss", ["ce", "ce+cam", "cc"])
def test_weights_are_those_of_a_bare_loop(folder: RunFolder, loss: str) -> None:
    experiment = small_config(loss=loss, epochs=2)
    train(experiment, folder, DATA)

    torch.manual_seed(experiment.seed)
    model = build_model("convnet", 10, 1, 8, 16, attention=loss != "ce")
    model.set_pixel_statistics(*statistics(DATA.train))
    model.train().to(memory_format=torch.channels_last)
    criterion = make_loss(experiment.loss)
    optimizer = torch.optim.SGD(
        model.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4, fused=True
    )
    loader = train_loader(
        DATA.train, batch_size=32, seed=0, device="cpu", image_size=8, padding=1, flip=0.0
    )
    batches = itertools.chain(loader.epoch(0), loader.epoch(1))
    for step, (_, images, labels) in enumerate(batches):
        for group in optimizer.param_groups:
            group["lr"] = cosine_learning_rate(step, 8, 0.1, 1e-5)
        optimizer.zero_grad()
        pixels = images.to(memory_format=torch.channels_last).float() / 255
        criterion(model(pixels), labels).backward()
        optimizer.step()

    trained = load_file(folder.model)
    for name, value in model.state_dict().items():
        assert torch.equal(trained[name], value), name


def test_record_tells_what_the_saved_weights_do(whole: RunFolder) -> None:
    record = whole.read_record()
    model = load_model(whole)
    with torch.no_grad():
        logits = model(DATA.test.pixels).logits  # uint8: the model normalises by itself
    correct = (logits.argmax(1) == DATA.test.labels).double().mean()
    assert record.accuracy == pytest.approx(100 * correct.item())
    assert record.evaluation["images"] == 50
    assert record.evaluation["split"] == "test"
    assert record.steps == 12
    assert record.parameters == sum(p.numel() for p in model.parameters())
    assert record.provenance["versions"]["torch"] == torch.__version__.split("+")[0]


def test_evaluation_of_a_run_is_its_record_s(whole: RunFolder) -> None:
    evaluation = evaluate(whole, DATA)
    assert {"split": "test", **evaluation} == whole.read_record().evaluation


def test_metrics_have_a_line_an_epoch_and_every_term(whole: RunFolder) -> None:
    lines = whole.read_metrics()
    assert [line["epoch"] for line in lines] == [1, 2, 3]
    assert [line["step"] for line in lines] == [4, 8, 12]
    assert set(lines[0]["terms"]) == {"total", "ce", "intra", "inter", "ratio"}
    for line in lines:
        terms = line["terms"]
        assert terms["total"] == pytest.approx(terms["ce"] + terms["ratio"], rel=1e-5)
    evaluation = whole.read_record().evaluation
    assert lines[-1]["evaluation"] == {
        name: value for name, value in evaluation.items() if not isinstance(value, list)
    }


def test_progress_tells_terms_accuracy_speed_and_time_left(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ccloss.training.tracking.SYNC_SECONDS", 0)
    listener = Listener()
    train(small_config(epochs=2), folder, DATA, reporter=listener)
    pattern = r"total \S+ ce \S+ intra \S+ inter \S+ ratio \S+  "
    pattern += r"train \d+\.\d\d %  \d+ images/s  .* left"
    assert len(listener.states) == 8
    assert all(re.fullmatch(pattern, state) for state in listener.states)
    # At the end of an epoch the running accuracy is that of its line.
    line = folder.read_metrics()[0]
    assert f"train {line['train_accuracy']:.2f} %" in listener.states[3]
    assert listener.states[-1].endswith("0 s left")


def test_tensorboard_shows_the_same_numbers(whole: RunFolder) -> None:
    events = EventAccumulator(str(whole.tensorboard))
    events.Reload()
    shown = [event.value for event in events.Scalars("evaluation/accuracy")]
    written = [line["evaluation"]["accuracy"] for line in whole.read_metrics()]
    assert shown == pytest.approx(written)


def test_sample_is_class_balanced_test_images(whole: RunFolder) -> None:
    sample = whole.read_test_sample()
    assert sample.attention is not None
    assert sample.features.shape == sample.attention.shape == (50, 16)
    labels = DATA.test.labels[torch.from_numpy(sample.index)]
    assert labels.tolist() == sample.labels.tolist()
    assert torch.bincount(labels).tolist() == [5] * 10
    images = DATA.test.pixels[torch.from_numpy(sample.index)]
    assert torch.equal(torch.from_numpy(sample.thumbnails), images.permute(0, 2, 3, 1))


def test_thumbnails_of_large_images_are_their_middle_made_small() -> None:
    ramp = torch.arange(96, dtype=torch.uint8).expand(3, 64, 96)
    small = thumbnail(ramp)
    assert small.shape == (32, 32, 3)
    # The middle square's columns are 16 to 79: a pixel of the thumbnail is the mean of two.
    expected = torch.arange(32) * 2 + 16.5
    assert (small[16, 1:-1, 0] - expected[1:-1]).abs().max() <= 1


def test_record_names_the_images_it_was_made_with(whole: RunFolder) -> None:
    used = whole.read_record().provenance["images"]
    assert used == {"train": fingerprint(DATA.train), "test": fingerprint(DATA.test)}


def test_max_steps_ends_within_an_epoch_and_takes_the_learning_rate_along(
    folder: RunFolder,
) -> None:
    record = train(small_config(max_steps=6, epochs=300), folder, DATA)
    lines = folder.read_metrics()
    assert record.steps == 6
    assert [line["step"] for line in lines] == [4, 6]
    assert lines[-1]["learning_rate"] == pytest.approx(
        cosine_learning_rate(5, 6, 0.1, 1e-5), rel=1e-9
    )


def test_epochs_between_evaluations(folder: RunFolder) -> None:
    train(small_config(epochs=4, evaluate_every=3), folder, DATA)
    evaluated = [line["evaluation"] is not None for line in folder.read_metrics()]
    assert evaluated == [False, False, True, True]


def test_validation_holds_training_images_out(folder: RunFolder) -> None:
    experiment = small_config(validation=0.2, epochs=1)
    data = load_data(experiment)
    assert (len(data.train), len(data.test)) == (100, 30)  # 3 of 13 of each digit
    record = train(experiment, folder, data)
    assert record.evaluation["split"] == "validation"
    assert record.evaluation["images"] == 30


# ---- killed and resumed --------------------------------------------------------------------------


@pytest.mark.parametrize("loss", ["a-softmax", "mc", "center"])
def test_state_and_draws_of_a_loss_survive_a_resume(tmp_path: Path, loss: str) -> None:
    experiment = small_config(loss=loss, sampler="m-per-class", samples_per_class=4)
    whole, cut = RunFolder(tmp_path / "whole"), RunFolder(tmp_path / "cut")
    train(experiment, whole, DATA)
    with pytest.raises(Interrupted):
        train(experiment, cut, DATA, reporter=Listener(interrupt_after=1))
    train(experiment, cut, DATA, resume=True)
    assert weights(cut) == weights(whole)
    lines = [folder.read_metrics()[-1]["terms"] for folder in (whole, cut)]
    assert lines[0] == lines[1]


@pytest.mark.parametrize("epochs", [1, 2, 3])
def test_resumed_run_ends_in_the_same_weights(
    folder: RunFolder, whole: RunFolder, epochs: int
) -> None:
    with pytest.raises(Interrupted):
        train(small_config(), folder, DATA, reporter=Listener(interrupt_after=epochs))
    assert not folder.finished
    record = train(small_config(), folder, DATA, resume=True)
    assert weights(folder) == weights(whole)
    assert record.evaluation == whole.read_record().evaluation
    assert [line["epoch"] for line in folder.read_metrics()] == [1, 2, 3]


def _train_until_killed(path: Path, experiment: dict[str, Any], started: Any) -> None:
    torch.set_num_threads(1)
    started.set()
    train(small_config(**experiment), RunFolder(path), DATA, resume=True)


def test_killed_at_ten_random_moments(tmp_path: Path) -> None:
    fields = {"epochs": 24}
    undisturbed, killed = RunFolder(tmp_path / "undisturbed"), RunFolder(tmp_path / "killed")
    begun = time.perf_counter()
    train(small_config(**fields), undisturbed, DATA)
    length = time.perf_counter() - begun

    chance = random.Random(5)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["ccloss.training.loop", "sklearn.datasets"])
    kills = 0
    while kills < 10:
        started = context.Event()
        process = context.Process(
            target=_train_until_killed, args=(killed.path, fields, started), daemon=True
        )
        process.start()
        assert started.wait(60)
        # Each sitting gets about a tenth of the run, and a moment that nothing agrees with.
        time.sleep(chance.uniform(0.02, 0.15) * length)
        process.kill()
        process.join()
        assert not killed.finished, "the run ended before ten kills; give it more epochs"
        kills += 1
    train(small_config(**fields), killed, DATA, resume=True)
    assert weights(killed) == weights(undisturbed)
    assert [line["epoch"] for line in killed.read_metrics()] == list(range(1, 25))


@pytest.mark.parametrize("damage", ["flip", "cut", "empty"])
def test_damaged_checkpoint_falls_back_and_says_so(
    folder: RunFolder, whole: RunFolder, damage: str
) -> None:
    with pytest.raises(Interrupted):
        train(small_config(), folder, DATA, reporter=Listener(interrupt_after=2))
    newest = folder.checkpoints / "epoch-0002.safetensors"
    content = bytearray(newest.read_bytes())
    if damage == "flip":
        content[-100] ^= 1
    newest.write_bytes({"flip": content, "cut": content[:-1000], "empty": b""}[damage])

    listener = Listener()
    record = train(small_config(), folder, DATA, resume=True, reporter=listener)
    assert weights(folder) == weights(whole)
    assert "epoch-0002.safetensors is damaged" in listener.warnings[0]
    assert "falling back to epoch-0001.safetensors" in listener.warnings[0]
    assert record.warnings == listener.warnings


def test_without_a_readable_checkpoint_the_run_begins_again(
    folder: RunFolder, whole: RunFolder
) -> None:
    with pytest.raises(Interrupted):
        train(small_config(), folder, DATA, reporter=Listener(interrupt_after=1))
    for checkpoint in folder.checkpoints.iterdir():
        checkpoint.write_bytes(b"not a checkpoint")
    listener = Listener()
    train(small_config(), folder, DATA, resume=True, reporter=listener)
    assert weights(folder) == weights(whole)
    assert "the run starts again" in listener.warnings[-1]


# ---- the folder ----------------------------------------------------------------------------------


def test_finished_run_is_not_overwritten_unasked(whole: RunFolder) -> None:
    before = content(whole.path)
    for resume in (False, True):
        with pytest.raises(InputError, match="finished run; use --overwrite"):
            train(small_config(), whole, DATA, resume=resume)
    assert content(whole.path) == before


def test_overwrite_trains_again(folder: RunFolder) -> None:
    train(small_config(epochs=2), folder, DATA)
    record = train(small_config(epochs=1, loss="ce"), folder, DATA, overwrite=True)
    assert record.method == "ce"
    assert len(folder.read_metrics()) == 1
    assert [path.name for path in folder.checkpoints.iterdir()] == ["epoch-0001.safetensors"]


def test_overwrite_that_was_killed_leaves_no_state_to_the_next_run(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(small_config(), folder, DATA)

    def killed(*_: Any) -> None:
        raise Interrupted

    monkeypatch.setattr("ccloss.training.records.shutil.rmtree", killed)
    with pytest.raises(Interrupted):
        train(small_config(seed=1), folder, DATA, overwrite=True)
    monkeypatch.undo()
    with pytest.raises(InputError, match="unfinished run"):
        train(small_config(seed=1), folder, DATA)


def test_overwrite_keeps_the_run_when_the_new_one_cannot_begin(whole: RunFolder) -> None:
    before = content(whole.path)
    with pytest.raises(InputError, match="backbone must be"):
        train(small_config(backbone="nothing"), whole, DATA, overwrite=True)
    assert content(whole.path) == before


def test_overwrite_spares_files_of_others(folder: RunFolder) -> None:
    train(small_config(epochs=1), folder, DATA)
    (folder.path / "thesis.tex").write_text("years of work")
    with pytest.raises(InputError, match=r"thesis\.tex besides a run"):
        train(small_config(epochs=1), folder, DATA, overwrite=True)
    assert folder.finished


def test_folder_of_other_files_is_refused(folder: RunFolder) -> None:
    folder.path.mkdir()
    (folder.path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="not of a run"):
        train(small_config(), folder, DATA)
    assert content(folder.path) == {"notes.txt": b"mine"}


def test_unfinished_run_wants_to_be_told(folder: RunFolder) -> None:
    with pytest.raises(Interrupted):
        train(small_config(), folder, DATA, reporter=Listener(interrupt_after=1))
    with pytest.raises(InputError, match="unfinished run; use --resume"):
        train(small_config(), folder, DATA)
    changed = small_config(epochs=5, learning_rate=0.2)
    with pytest.raises(InputError, match=r"epochs: 3 before, 5 now.*learning_rate: 0\.1 before"):
        train(changed, folder, DATA, resume=True)


# ---- what goes wrong in training -----------------------------------------------------------------


def test_loss_that_is_not_finite_stops_the_run(folder: RunFolder) -> None:
    experiment = small_config(learning_rate=1e12, final_learning_rate=1e12)
    with pytest.raises(
        DivergenceError, match=r"not finite at step \d+ \(epoch \d\): total"
    ) as told:
        train(experiment, folder, DATA)
    assert "try a lower learning rate" in str(told.value)
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


def test_collapse_of_attention_is_told(folder: RunFolder) -> None:
    listener = Listener()
    experiment = small_config(epochs=2, loss_options={"eps": 1e9})
    record = train(experiment, folder, DATA, reporter=listener)
    assert "attention has collapsed" in listener.warnings[0]
    assert record.warnings == listener.warnings


def test_bf16_trains_and_warns_where_it_is_slow(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ccloss.training.components.has_bf16", lambda device: False)
    experiment = small_config(precision="bf16", epochs=1, max_steps=2)
    record = train(experiment, folder, DATA)
    assert any("no bf16 instructions" in warning for warning in record.warnings)
    assert all(torch.isfinite(value).all() for value in load_file(folder.model).values())


@pytest.mark.skipif(not Path("/proc/cpuinfo").exists(), reason="no /proc/cpuinfo to ask")
def test_bf16_of_the_processor_is_what_the_kernel_says() -> None:
    flags = Path("/proc/cpuinfo").read_text().split()
    assert devices.has_bf16(torch.device("cpu")) == ("avx512_bf16" in flags or "bf16" in flags)


def test_loss_without_attention_is_rejected_before_anything_is_written(folder: RunFolder) -> None:
    config = dataclasses.replace(small_config(), attention=False)
    with pytest.raises(InputError, match=r"output\.attention is None"):
        train(config, folder, DATA)
    assert not folder.path.exists()


def test_evaluation_on_other_data_is_refused(whole: RunFolder) -> None:
    other = dataclasses.replace(small_config())
    data = load_data(other)._replace(classes=("a", "b"))
    with pytest.raises(InputError, match="evaluate on the run's own data"):
        evaluate(whole, data)


def test_damaged_weights_are_told(folder: RunFolder) -> None:
    train(small_config(epochs=1), folder, DATA)
    folder.model.write_bytes(folder.model.read_bytes()[:-10])
    with pytest.raises(InputError, match=r"model\.safetensors cannot be read"):
        load_model(folder)


# ---- more than one process -----------------------------------------------------------------------


def test_two_processes_train_one_network(tmp_path: Path) -> None:
    """The command under a launcher: every image evaluated once, one record, one voice."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += [
        "--nproc-per-node",
        "2",
        "-m",
        "ccloss",
        "train",
        "--data",
        "digits",
        "--epochs",
        "2",
    ]
    command += ["--train-limit", "130", "--test-limit", "51", "--out", str(tmp_path / "run")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    record = RunFolder(tmp_path / "run").read_record()
    assert record.evaluation["images"] == 51
    assert record.steps == 8
    assert done.stderr.count("epoch 2/2") == 1
    assert any("batch normalisation" in warning for warning in record.warnings)
