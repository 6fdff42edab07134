"""Settings from files, the complete settings of a run, and a run that continues another one."""

import json
from pathlib import Path

import pytest

from ccloss.cli.app import main
from ccloss.training.records import RunFolder

SMALL = ["--data", "digits", "--train-limit", "130", "--test-limit", "50", "--epochs", "1"]

TOML = """
data = "digits"
learning-rate = 0.05
trivial_augment = true
[loss_options]
weight = 2
label-smoothing = 0.1
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def printed(capsys: pytest.CaptureFixture[str], *options: str) -> dict:
    assert main(["train", *options, "--print-config"]) == 0
    return json.loads(capsys.readouterr().out)


def test_options_override_the_file(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "a.toml").write_text(TOML)
    fields = printed(capsys, "--config", "a.toml", "--learning-rate", "0.1", "--epochs", "3")
    assert (fields["data"], fields["learning_rate"], fields["epochs"]) == ("digits", 0.1, 3)
    assert fields["trivial_augment"] is True
    assert fields["loss_options"] == {"weight": 2, "label_smoothing": 0.1}
    assert printed(capsys, "--config", "a.toml", "--no-trivial-augment")["learning_rate"] == 0.05
    (folder / "b.toml").write_text("final-learning-rate = 0.2")  # above the default
    assert printed(capsys, "--config", "b.toml", "--learning-rate", "0.5")["learning_rate"] == 0.5
    assert not (folder / "runs").exists()


def test_printed_settings_and_those_of_a_run_can_be_read(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = [*SMALL, "--loss.class-weights", "1,1,1,1,1,0.5,2,1,1,1", "--warmup-steps", "2"]
    fields = printed(capsys, *options)
    (folder / "a.json").write_text(json.dumps(fields))
    assert printed(capsys, "--config", "a.json") == fields
    assert main(["train", "--config=a.json", "--out", "run"]) == 0
    assert json.loads((folder / "run" / "experiment.json").read_text()) == fields


def test_another_backbone_has_its_own_defaults(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def fields(file: list[str], backbone: str) -> tuple[str | None, float]:
        (folder / "a.json").write_text(json.dumps(printed(capsys, "--data", "mnist", *file)))
        found = printed(capsys, "--config", "a.json", "--backbone", backbone)
        return found["final_pool"], found["clip_grad_norm"]

    assert fields(["--backbone", "vgg16"], "convnet") == (None, 0.0)
    assert fields(["--backbone", "convnet"], "vgg16") == ("max", 1.0)
    assert fields(["--backbone", "vgg16", "--clip-grad-norm", "0.5"], "convnet") == (None, 0.5)
    assert fields(["--backbone", "vgg16", "--clip-grad-norm", "0"], "vgg16") == ("max", 0.0)


def test_run_is_continued_with_its_own_settings(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", *SMALL, "--momentum", "0.8", "--out", "first"]) == 0
    assert main(["train", "--continue-from", "first", "--epochs", "2", "--out", "second"]) == 0
    first, second = (RunFolder(name).read_record() for name in ("first", "second"))
    changed = {k for k, v in second.experiment.items() if first.experiment[k] != v}
    assert changed == {"epochs", "continue_from"}
    assert second.provenance["parent"]["run"] == "first"
    assert main(["train", "--continue-from", "missing", "--out", "third"]) == 2
    assert "missing" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.toml", "epochz = 3", "config a.toml: unknown field 'epochz'; did you mean 'epochs'?"),
        ("a.toml", "epochs = ", "config a.toml cannot be read"),
        ("a.toml", "epochs = 0", "config a.toml: epochs must be greater than or equal to 1, got 0"),
        ("a.toml", "padding = []", "config a.toml: padding must be a valid integer, got []"),
        ("a.json", "{}", "config a.json: field 'data' is missing"),
        ("a.json", "{", "config a.json cannot be read (Expecting"),
        ("a.json", "[]", "config a.json must hold a JSON object"),
        ("a.yaml", "epochs: 3", "config must be a .json or .toml file, got a.yaml"),
        ("b.toml", None, "config b.toml cannot be read (No such file or directory)"),
    ],
)
def test_bad_files_are_one_line(
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    name: str,
    text: str | None,
    message: str,
) -> None:
    if text is not None:
        (folder / name).write_text(text)
    assert main(["train", "--config", name]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line.replace("--config", "config")


def test_value_of_a_switch_is_explained(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", "--pretrained", "false"]) == 2
    message = "error: --pretrained takes no value, got 'false'; write --pretrained or"
    assert capsys.readouterr().err.startswith(message)
