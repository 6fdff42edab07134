"""The command as a user meets it."""

import csv
import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from ccloss import __version__
from ccloss.cli import main
from ccloss.data.images import MemoryImages
from ccloss.data.sources import load
from ccloss.training.evaluation import load_model
from ccloss.training.records import RunFolder
from processes import FORKS, run_forked
from small_runs import content

CORES = len(os.sched_getaffinity(0))
SMALL = ["--data", "digits", "--train-limit", "130", "--test-limit", "50", "--epochs", "2"]


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("CCLOSS_DATA", raising=False)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("finished") / "run"
    assert main(["train", *SMALL, "--out", str(out)]) == 0
    return out


def write_images(folder: Path, classes: dict[str, int], size: int = 12) -> None:
    chance = np.random.default_rng(0)
    for name, count in classes.items():
        (folder / name).mkdir(parents=True)
        for number in range(count):
            pixels = chance.integers(0, 256, (size, size, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number}.png")


# ---- what it does --------------------------------------------------------------------------------


def test_help_and_version_answer_without_torch() -> None:
    code = "import sys, ccloss.cli\nassert ccloss.cli.main(['--help']) == 0\n"
    code += "assert 'torch' not in sys.modules, 'torch'"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert all(word in done.stdout for word in ("train", "compare", "reproduce", "report"))


def test_a_loss_of_ones_own_is_known_to_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ccloss.losses import LOSSES, CrossEntropyLoss

    monkeypatch.setitem(LOSSES, "mine", CrossEntropyLoss)
    assert main(["train", *SMALL, "--loss", "mine", "--out", str(tmp_path / "run")]) == 0


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.strip() == __version__


def test_every_field_of_the_experiment_is_in_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    import dataclasses

    from ccloss.bench.experiment import Experiment

    assert main(["train", "--help"]) == 0
    shown = capsys.readouterr().out
    for field in dataclasses.fields(Experiment):
        assert f"--{field.name.replace('_', '-')}" in shown


def test_train_then_evaluate_agree(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = RunFolder(finished).read_record()
    assert main(["evaluate", str(finished)]) == 0
    shown = capsys.readouterr().out
    assert f"{record.accuracy:.2f} %" in shown
    assert f"{record.evaluation['attention_ratio']:.4f}" in shown
    assert "worst class accuracy" in shown


def test_a_run_with_validation_images_is_evaluated_on_each_split(
    finished: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--validation", "0.2", "--select", "best", "--out", "run"]
    assert main(["train", *SMALL, *options]) == 0
    record = RunFolder("run").read_record()
    network = load_model(RunFolder("run"))
    test = load("digits", image_size=8, test_limit=50).test
    assert isinstance(test, MemoryImages)
    with torch.inference_mode():
        found = network(test.pixels).logits.argmax(1)
    expected = 100 * float((found == test.labels).double().mean())
    capsys.readouterr()
    assert main(["evaluate", "run", "--split", "test"]) == 0
    shown = capsys.readouterr()
    assert f"{expected:.2f} %" in shown.out
    assert "no digest of its test images" in shown.err
    assert main(["evaluate", "run"]) == 0
    assert f"{record.accuracy:.2f} %" in capsys.readouterr().out
    assert main(["evaluate", str(finished), "--split", "validation"]) == 2
    assert "use split test" in capsys.readouterr().err


def test_options_reach_the_run(tmp_path: Path) -> None:
    options = ["--loss.weight", "0.5", "--loss.reduction", "mean", "--seed", "7", "--batch-size=16"]
    assert main(["train", *SMALL, *options, "--out", "run"]) == 0
    record = RunFolder("run").read_record()
    assert record.experiment["loss_options"] == {"weight": 0.5, "reduction": "mean"}
    assert (record.seed, record.experiment["batch_size"], record.steps) == (7, 16, 16)
    assert record.method == "cc reduction=mean weight=0.5"


def test_train_on_a_folder_of_images(tmp_path: Path) -> None:
    write_images(tmp_path / "flowers" / "train", {"rose": 12, "tulip": 12})
    write_images(tmp_path / "flowers" / "test", {"rose": 3, "tulip": 3})
    command = ["train", "--data", "folder:flowers", "--backbone", "convnet", "--image-size", "12"]
    command += ["--batch-size", "8", "--epochs", "1", "--hidden-features", "16", "--out", "run"]
    assert main(command) == 0
    record = RunFolder("run").read_record()
    assert record.classes == ["rose", "tulip"]
    assert record.experiment["channels"] == 3
    assert main(["evaluate", "run"]) == 0


def test_train_on_large_images_with_workers(tmp_path: Path) -> None:
    write_images(tmp_path / "birds", {"owl": 20, "wren": 20}, size=80)
    command = ["train", "--data", "folder:birds", "--backbone", "resnet18", "--image-size", "72"]
    command += ["--batch-size", "4", "--max-steps", "1", "--workers", "1", "--out", "run"]
    assert main(command) == 0
    assert 2 <= RunFolder("run").read_record().evaluation["images"] <= 16  # about 8


def test_compare_makes_table_figures_and_page(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["compare", *SMALL, "--losses", "ce,cc", "--out", "both", "--rounds"]
    assert main([*command, "2"]) == 0
    shown = capsys.readouterr().out
    listed = [Path(line) for line in shown.splitlines() if line.startswith("both/")]
    names = {str(path.relative_to("both")) for path in listed}
    pictures = ("features", "attention_distances", "attention_channels", "curves")
    assert {f"figures/{name}.png" for name in pictures} <= names
    assert {f"tables/comparison.{ending}" for ending in ("csv", "md", "tex")} <= names
    assert {"tables/claims.md", "tables/claims.csv"} <= names
    assert any(name.startswith("tables/table1") for name in names)
    assert listed[-1].name == "index.html"
    assert all(path.stat().st_size for path in listed)
    assert all(path.with_suffix(".svg").exists() for path in listed if path.suffix == ".png")

    with (tmp_path / "both" / "tables" / "comparison.csv").open() as file:
        rows = {row["method"]: row for row in csv.DictReader(file)}
    for method, row in rows.items():
        rounds = [
            RunFolder(f"both/digits/convnet/{method}/round-{n}").read_record() for n in (1, 2)
        ]
        accuracies = [record.accuracy for record in rounds]
        mean = sum(accuracies) / 2
        assert float(row["accuracy_mean"]) == pytest.approx(mean)
        assert float(row["accuracy_margin"]) == pytest.approx(max(accuracies) - mean)
        assert [record.seed for record in rounds] == [0, 1]
    assert rows["ce"]["attention_ratio"] == ""

    # The same command does nothing twice, and a longer one only what is missing.
    before = content(tmp_path / "both" / "digits" / "convnet" / "cc")
    assert main([*command, "3"]) == 0
    after = content(tmp_path / "both" / "digits" / "convnet" / "cc")
    assert {name: after[name] for name in before} == before
    assert RunFolder("both/digits/convnet/cc/round-3").finished

    # Another protocol does not mix with it.
    assert main([*command, "2", "--learning-rate", "0.05"]) == 2
    printed = capsys.readouterr().err.splitlines()[-1]
    assert "--learning-rate: 0.1 before, 0.05 now" in printed


def test_reproduce_runs_a_table_of_the_paper_and_reports_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["reproduce", "table4", *SMALL, "--rounds", "2", "--seed", "3", "--out", "paper"]
    assert main([*command, "--only", "*/ce,*/cc", "--dry-run"]) == 0
    planned = " ".join(capsys.readouterr().out.split())
    assert planned.count("digits/convnet") == 2  # the column is narrow: the method is a line below
    assert all(f"│ {method} │" in planned for method in ("ce", "cc"))
    assert "ce+cam" not in planned
    assert "32 steps" in planned  # two cells, two rounds, two epochs of four
    assert not Path("paper").exists()

    assert main([*command, "--only", "*/ce,*/cc"]) == 0
    printed = capsys.readouterr()
    assert "[4/4] digits/convnet cc, round 2" in printed.err
    assert "2 epochs instead of 20; 130 training images instead of all" in printed.out
    assert "Table 1" not in printed.out
    seeds = [RunFolder(f"paper/digits/convnet/ce/round-{n}").read_record().seed for n in (1, 2)]
    assert seeds == [3, 4]

    # Another table takes over what it shares, and the folder's page has both.
    kept = content(tmp_path / "paper" / "digits")
    assert main(["reproduce", "table5, table5", *command[2:], "--only", "*/lambda=[01]"]) == 0
    after = content(tmp_path / "paper" / "digits")
    assert {name: after[name] for name in kept} == kept
    assert {Path(name).parts[1] for name in after} == {"ce", "cc", "cc-weight=0"}
    assert "[4/4]" in capsys.readouterr().err
    page = Path("paper/index.html").read_text()
    assert "Table 4" in page
    assert "Table 5" in page

    assert main([*command, "--only", "*/ce,*/cc", "--dry-run"]) == 0
    assert "0 steps, about 0 s" in " ".join(capsys.readouterr().out.split())


def test_reproduce_goes_on_after_a_run_that_fails(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    # MC-Loss needs as many channels as classes; the convnet has fewer than these.
    write_images(tmp_path / "many", {f"class-{n:03}": 2 for n in range(140)}, size=8)
    command = ["reproduce", "table1", "--data", "folder:many", "--backbone", "convnet"]
    command += ["--only", "*/mc,*/ce", "--rounds", "1", "--epochs", "1", "--out", "paper"]
    assert main(command) == 1
    printed = capsys.readouterr()
    assert "Traceback" not in printed.err
    (path,) = Path("paper").glob("*/convnet/mc/round-1")
    assert f"failed: {path}: " in printed.err
    failed = RunFolder(path)
    assert "channels" in failed.read_failure()["error"]
    (other,) = Path("paper").glob("*/convnet/ce/round-1")
    assert RunFolder(other).finished
    assert failed.read_failure()["error"].split(";")[0] in Path("paper/index.html").read_text()


def test_report_of_runs_that_are_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for loss in ("ce", "cc"):
        assert main(["train", *SMALL, "--loss", loss, "--out", f"mine/{loss}"]) == 0
    before = content(tmp_path / "mine")
    capsys.readouterr()
    assert main(["report", "mine", "--out", "there", "--figures"]) == 0
    written = [Path(line) for line in capsys.readouterr().out.splitlines()]
    assert Path("there/index.html") in written
    assert Path("there/figures/features.png") in written
    assert all(path.stat().st_size for path in written)
    assert content(tmp_path / "mine") == before

    RunFolder("mine/cc").test_sample.unlink()
    RunFolder("mine/ce").test_sample.write_bytes(b"damaged")
    assert main(["report", "mine", "--out", "there", "--figures"]) == 0
    lines = capsys.readouterr().out.splitlines()
    missing = "mine/cc/test_sample.safetensors is missing; train the run again"
    assert f"not in the figures: {missing}" in lines
    damaged = "not in the figures: mine/ce/test_sample.safetensors cannot be read"
    assert sum(line.startswith(damaged) for line in lines) == 1


def test_folder_of_another_run_is_refused_before_data_are_loaded(
    finished: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def load_data(*_: Any, **__: Any) -> None:
        raise AssertionError

    monkeypatch.setattr("ccloss.training.components.load_data", load_data)
    assert main(["train", "--data", "cifar100", "--out", str(finished), "--resume"]) == 2
    assert "holds a finished run" in capsys.readouterr().err


def test_compare_gives_an_option_to_the_losses_that_have_it(tmp_path: Path) -> None:
    command = ["compare", *SMALL, "--losses", "ce,cc", "--rounds", "1", "--loss.weight", "2"]
    assert main([*command, "--out", "both"]) == 0
    assert (
        RunFolder("both/digits/convnet/ce/round-1").read_record().experiment["loss_options"] == {}
    )
    record = RunFolder("both/digits/convnet/cc-weight=2/round-1").read_record()
    assert record.experiment["loss_options"] == {"weight": 2}


def test_losses_are_listed_with_what_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    from ccloss.losses import LOSSES

    assert main(["losses"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if not line.startswith(" ")] == [*LOSSES, "pml:NAME"]
    origins = ("formula", "our reading", "our variant")
    assert sum(any(each in line for each in origins) for line in lines) == len(LOSSES)
    assert any("gamma 2.0" in line for line in lines)


@pytest.mark.parametrize("loss", ["focal", "a-softmax", "mc", "ical", "fical", "center", "arcface"])
def test_every_loss_trains_and_is_evaluated_from_disk(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], loss: str
) -> None:
    assert main(["train", *SMALL, "--loss", loss, "--out", "run"]) == 0
    record = RunFolder("run").read_record()
    assert record.method == loss
    capsys.readouterr()
    assert main(["evaluate", "run"]) == 0
    assert f"{record.accuracy:.2f} %" in capsys.readouterr().out


@pytest.mark.parametrize("option", ["--loss.class-weights", "--loss.class_weights"])
def test_class_weights_from_the_command_line(option: str, tmp_path: Path) -> None:
    weights = "1,1,1,1,1,0.5,2,1,1,1"
    assert main(["train", *SMALL, option, weights, "--out", "run"]) == 0
    options = RunFolder("run").read_record().experiment["loss_options"]
    assert options == {"class_weights": [1, 1, 1, 1, 1, 0.5, 2, 1, 1, 1]}


def test_batches_of_so_many_a_class(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sampler = ["--sampler", "m-per-class", "--samples-per-class"]
    assert main(["train", *SMALL, *sampler, "8", "--out", "run"]) == 0
    # With 8 of each of 4 classes, a batch of 32 has 4 * 28 same-class pairs in 496.
    plain = ["train", *SMALL, "--out", "plain"]
    assert main(plain) == 0
    ratios = [RunFolder(name).read_metrics()[0]["terms"]["ratio"] for name in ("run", "plain")]
    assert ratios[0] > 2 * ratios[1]
    capsys.readouterr()
    assert main(["train", *SMALL, *sampler, "5", "--out", "other"]) == 2
    assert "--batch-size" in capsys.readouterr().err


def test_data_list_and_verify(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "list"]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in ("digits", "mnist", "cifar100", "cars196", "8,144"))
    assert main(["data", "verify", "digits"]) == 0
    assert "no problems" in capsys.readouterr().out


def test_data_verify_lists_every_problem(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_images(tmp_path / "set", {"a": 5, "b": 5})
    for name in ("a/1.png", "b/2.png"):
        (tmp_path / "set" / name).write_bytes(b"not an image")
    assert main(["data", "verify", "folder:set"]) == 1
    shown = capsys.readouterr().out
    assert "a/1.png" in shown
    assert "b/2.png" in shown
    assert "2 problems" in shown


# ---- bad input -----------------------------------------------------------------------------------


def _broken_image(folder: Path) -> None:
    write_images(folder / "set", {"a": 20, "b": 20})
    picture = folder / "set" / "a" / "3.png"
    picture.write_bytes(picture.read_bytes()[:60])


def _other_classes(folder: Path) -> None:
    write_images(folder / "set" / "train", {"a": 20, "b": 20})
    write_images(folder / "set" / "test", {"a": 2, "c": 2})


def _bad_labels(folder: Path) -> None:
    """MNIST's layout with a label that MNIST has not."""
    import io

    import pyarrow as pa
    import pyarrow.parquet as pq

    (folder / "mnist").mkdir()
    for split, count in (("train", 40), ("test", 20)):
        picture = io.BytesIO()
        Image.fromarray(np.zeros((28, 28), dtype=np.uint8)).save(picture, "png")
        images = [{"bytes": picture.getvalue(), "path": None}] * count
        labels = [number % 10 for number in range(count - 1)] + [11]
        table = pa.table({"image": images, "label": labels})
        pq.write_table(table, folder / "mnist" / f"{split}-00000-of-00001.parquet")


def _file_in_the_way(folder: Path) -> None:
    (folder / "run").write_text("not a folder")


def _files_of_others(folder: Path) -> None:
    (folder / "run").mkdir()
    (folder / "run" / "notes.txt").write_text("mine")


def _nothing(folder: Path) -> None:
    """The command line is bad enough by itself."""


MNIST = ["--train-limit", "30", "--test-limit", "10"]
FOLDER = ["--data", "folder:set", "--image-size", "12", "--backbone", "convnet"]
BAD: dict[str, tuple[list[str], str, Callable[[Path], None]]] = {
    "unknown command": (["trian"], "trian", _nothing),
    "unknown option": (["train", "--epoch", "3"], "--epoch", _nothing),
    "stray word": (["train", "digits"], "digits", _nothing),
    "no value": (["train", "--epochs"], "--epochs", _nothing),
    "unknown loss": (["train", "--loss", "cee"], "did you mean 'ce'?", _nothing),
    "unknown loss option": (["train", "--loss.wieght", "1"], "did you mean 'weight'?", _nothing),
    "weights that are not numbers": (
        ["train", "--loss.class-weights", "1,x"],
        "--loss.class-weights must be numbers separated by commas, got '1,x'",
        _nothing,
    ),
    "a negative weight": (
        ["train", "--loss.class-weights=1,-1"],
        "class_weights: every weight must be a number of at least 0, got -1",
        _nothing,
    ),
    "negative lambda": (
        ["train", "--loss.weight", "-1"],
        "weight must be a number of at least 0",
        _nothing,
    ),
    "lambda in words": (["train", "--loss.weight", "big"], "big", _nothing),
    "eps 0": (["train", "--loss.eps", "0"], "eps must be a positive number, got 0", _nothing),
    "reduction": (["train", "--loss.reduction", "max"], "reduction must be", _nothing),
    "no attention for cc": (["train", "--no-attention"], "attention must not be off", _nothing),
    "unknown data": (["train", "--data", "minst"], "did you mean 'mnist'?", _nothing),
    "no such data root": (["train", "--data", "mnist", "--data-root", "x"], "x", _nothing),
    "no such folder": (["train", "--data", "folder:set"], "set", _nothing),
    "unknown backbone": (["train", *SMALL, "--backbone", "vgg"], "did you mean 'vgg16'", _nothing),
    "unknown timm": (["train", *SMALL, "--backbone", "timm:resnet9000"], "not a model", _nothing),
    "pretrained on small": (
        ["train", *SMALL, "--backbone", "resnet18", "--pretrained"],
        "--image-size above 64",
        _nothing,
    ),
    "batch of 0": (["train", *SMALL, "--batch-size", "0"], "--batch-size must be", _nothing),
    "batch too large": (["train", *SMALL, "--batch-size", "999"], "--batch-size 999", _nothing),
    "negative epochs": (["train", "--epochs", "-1"], "epochs must be greater", _nothing),
    "epochs in words": (["train", "--epochs", "many"], "epochs must be", _nothing),
    "rate 0": (["train", "--learning-rate", "0"], "--learning-rate must be", _nothing),
    "rate nan": (["train", "--learning-rate", "nan"], "--learning-rate must be", _nothing),
    "rate rises": (["train", "--final-learning-rate", "1"], "--final-learning-rate must", _nothing),
    "flip of 2": (["train", "--flip", "2"], "flip must be", _nothing),
    "seed -1": (["train", "--seed", "-1"], "seed must be", _nothing),
    "precision": (["train", "--precision", "fp8"], "precision must be", _nothing),
    "channels": (["train", "--channels", "2"], "channels must be", _nothing),
    "image of 0 px": (["train", "--image-size", "0"], "--image-size must be", _nothing),
    "resize below size": (
        ["train", "--image-size", "224", "--resize", "200"],
        "resize must not be below",
        _nothing,
    ),
    "limit too large": (
        ["train", "--data", "digits", "--train-limit", "5000"],
        "--train-limit",
        _nothing,
    ),
    "validation of all": (["train", *SMALL, "--validation", "1"], "validation must", _nothing),
    "resume and overwrite": (["train", *SMALL, "--resume", "--overwrite"], "exclude", _nothing),
    "file in the way": (["train", *SMALL, "--out", "run"], "run is a file", _file_in_the_way),
    "files of others": (["train", *SMALL, "--out", "run"], "not of a run", _files_of_others),
    "unwritable path": (["train", *SMALL, "--out", "/proc/run"], "/proc/run", _nothing),
    "broken image": (["train", *FOLDER], "3.png", _broken_image),
    "other classes": (["train", *FOLDER], "c", _other_classes),
    "label out of range": (
        ["train", "--data", "mnist", "--data-root", ".", *MNIST],
        "11",
        _bad_labels,
    ),
    "wrong label": (["train", "--data", "mnist", "--data-root", "."], "label 11", _bad_labels),
    "evaluate nothing": (["evaluate", "run"], "not a finished run", _nothing),
    "no table": (["reproduce", "table6"], "did you mean 'table", _nothing),
    "no cell": (
        ["reproduce", "table1", "--only", "mnist/vgg"],
        "only must name one of the cells",
        _nothing,
    ),
    "no rounds to reproduce": (["reproduce", "table1", "--rounds", "0"], "rounds must", _nothing),
    "bad scale": (["reproduce", "table1", "--epochs", "0"], "epochs must be", _nothing),
    "no jobs": (["compare", *SMALL, "--jobs", "0"], "--jobs must be from 1 to", _nothing),
    "too many jobs": (
        ["compare", *SMALL, "--jobs", "2147483648"],
        f"this machine has {CORES} core",
        _nothing,
    ),
    "jobs and ray": (["compare", *SMALL, "--jobs", "2", "--ray", "auto"], "one of them", _nothing),
    "jobs twice": (
        ["compare", *SMALL, "--jobs", "2", "--rounds-per-device", "2"],
        "give one of them",
        _nothing,
    ),
    "no rounds a device": (
        ["compare", *SMALL, "--rounds-per-device", "0"],
        "--rounds-per-device must be from 1 to",
        _nothing,
    ),
    "rounds a device in words": (
        ["compare", *SMALL, "--rounds-per-device", "auto"],
        "--rounds-per-device",
        _nothing,
    ),
    "threads": (
        ["compare", *SMALL, "--threads-per-run", "4096"],
        f"--threads-per-run must be from 1 to {CORES}",
        _nothing,
    ),
    "no cluster": (["compare", *SMALL, "--ray", "127.0.0.1:1"], "no Ray cluster answers", _nothing),
    "nothing to report": (["report", "."], "contains no runs", _nothing),
    "no folder to report": (["report", "nowhere"], "nowhere does not exist", _nothing),
    "no losses": (["compare", *SMALL, "--losses", ","], "losses must name", _nothing),
    "unknown loss to compare": (
        ["compare", *SMALL, "--losses", "ce,focall"],
        "--losses 'ce,focall': loss must be one of",
        _nothing,
    ),
    "loss twice": (["compare", *SMALL, "--losses", "cc,cc"], "twice", _nothing),
    "no rounds": (["compare", *SMALL, "--rounds", "0"], "rounds must be", _nothing),
    "one loss to compare": (["compare", "--loss", "ce"], "use --losses", _nothing),
    "option of none": (["compare", *SMALL, "--loss.gamma", "1"], "gamma", _nothing),
    "option misspelt": (
        ["compare", *SMALL, "--losses", "ce,focal", "--loss.gama", "1"],
        "did you mean 'gamma'?",
        _nothing,
    ),
    "verify unknown": (["data", "verify", "minst"], "did you mean 'mnist'?", _nothing),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_gets_one_line_and_writes_nothing(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments, message, prepare = BAD[name]
    prepare(tmp_path)
    before = content(tmp_path)
    assert main(arguments) == 2
    captured = capsys.readouterr()
    lines = captured.err.splitlines()
    assert len(lines) == 1, captured.err
    assert lines[0].startswith("error: ")
    assert message in lines[0]
    assert captured.out == ""
    assert content(tmp_path) == before


def test_finished_run_is_kept(finished: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = content(finished)
    assert main(["train", *SMALL, "--out", str(finished)]) == 2
    assert "finished run; use --overwrite" in capsys.readouterr().err
    assert content(finished) == before


@pytest.mark.parametrize("damaged", ["record.json", "model.safetensors"])
def test_damaged_run_is_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], damaged: str
) -> None:
    assert main(["train", *SMALL, "--out", "run"]) == 0
    capsys.readouterr()
    (tmp_path / "run" / damaged).write_bytes(b"{")
    assert main(["evaluate", "run"]) == 2
    assert damaged in capsys.readouterr().err


def _hold(path: Path, held: Any, release: Any) -> None:
    with RunFolder(path).locked():
        held.set()
        release.wait(60)


@pytest.fixture
def held_folder(tmp_path: Path) -> Iterator[Path]:
    """A run's folder that another process is writing to."""
    held, release = FORKS.Event(), FORKS.Event()
    process = FORKS.Process(target=_hold, args=(tmp_path / "run", held, release))
    process.start()
    assert held.wait(60)
    yield tmp_path / "run"
    release.set()
    process.join()


def test_folder_in_use_is_refused(held_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", *SMALL, "--out", str(held_folder)]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert "locked by another process" in lines[0]
    assert content(held_folder) == {".lock": b""}


def _limited(arguments: list[str]) -> int:
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))
    return main(arguments)


def test_full_disk_costs_nothing_that_was_written(tmp_path: Path) -> None:
    """No file may grow beyond 200 kB, so the first checkpoint fails like on a full disk."""
    command = ["train", *SMALL, "--out", "run"]
    code, printed = run_forked(tmp_path, _limited, command)
    assert code == 2, printed
    error = "error: run/checkpoints/epoch-0001.safetensors: File too large"
    assert [line.startswith(error) for line in printed.splitlines()] == [True]
    assert not list((tmp_path / "run" / "checkpoints").iterdir())

    assert main([*command, "--resume"]) == 0
    assert main(["train", *SMALL, "--out", "again"]) == 0
    assert RunFolder("run").model.read_bytes() == RunFolder("again").model.read_bytes()


def test_read_only_disk(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import errno

    def refuse(self: Path, *_: Any, **__: Any) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(self))

    monkeypatch.setattr(Path, "mkdir", refuse)
    assert main(["train", *SMALL, "--out", "run"]) == 2
    assert capsys.readouterr().err.startswith("error: run: Read-only file system")


def test_divergence_is_not_bad_input(capsys: pytest.CaptureFixture[str]) -> None:
    rates = ["--learning-rate", "1e12", "--final-learning-rate", "1e12"]
    assert main(["train", *SMALL, *rates, "--out", "run"]) == 1
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("error: the loss is not finite at step")


def test_interruption_is_reported(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("ccloss.training.loop.train", interrupt)
    assert main(["train", *SMALL, "--out", "run"]) == 130
    assert "interrupted" in capsys.readouterr().err
