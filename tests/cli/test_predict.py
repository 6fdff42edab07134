"""``ccloss predict``, ``ccloss export`` and ``ccloss push`` on the command line."""

import csv
import io
import json
import shutil
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from PIL import Image

import ccloss
from ccloss.cli import main
from ccloss.inference import hub
from ccloss.training.loop import train
from ccloss.training.records import RunFolder
from small_runs import small_config, small_data


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A run on gray images of 8x8 pixels."""
    folder = RunFolder(tmp_path_factory.mktemp("predict") / "run")
    train(small_config(epochs=1), folder, small_data())
    return str(folder.path)


@pytest.fixture(autouse=True)
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with three images below ``photos``."""
    monkeypatch.chdir(tmp_path)
    random = np.random.default_rng(0)
    for name in ("a.png", "b.png", "inner/c.png"):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (8, 8), dtype=np.uint8)).save(path)
    return tmp_path / "photos"


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_table_has_the_classes_of_each_image(run: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", run, "photos", "--top", "2"]) == 0
    printed = capsys.readouterr().out
    assert printed.count("%") == 6
    for prediction in ccloss.load(run).predict(["photos/a.png"], top=2):
        for probability in prediction.probabilities:
            assert f"{100 * probability:.2f} %" in printed


def test_csv_and_json_agree_with_python(run: str) -> None:
    assert main(["predict", run, "photos", "--top", "3", "--csv", "p.csv", "--json", "p.json"]) == 0
    paths = ["photos/a.png", "photos/b.png", "photos/inner/c.png"]
    table = rows(Path("p.csv").read_text())
    content = json.loads(Path("p.json").read_text())
    expected = ccloss.load(run).predict(paths, top=3)
    assert [row["path"] for row in table] == [each["path"] for each in content] == paths
    for row, each, prediction in zip(table, content, expected, strict=True):
        names = list(prediction.classes)
        assert [row[f"class_{k}"] for k in (1, 2, 3)] == names
        assert [found["name"] for found in each["classes"]] == names
        probabilities = list(prediction.probabilities)
        assert [float(row[f"probability_{k}"]) for k in (1, 2, 3)] == probabilities
        assert [found["probability"] for found in each["classes"]] == probabilities


@pytest.mark.parametrize(
    ("paths", "stdin", "expected"),
    [
        (["photos/b.png", "photos/a.png", "photos/b.png"], "", ["b.png", "a.png"]),
        (["photos/*.png"], "", ["a.png", "b.png"]),
        (["photos/**/*.png"], "", ["a.png", "b.png", "inner/c.png"]),
        (["-"], "photos/inner/c.png\n\nphotos/a.png", ["inner/c.png", "a.png"]),
    ],
)
def test_files_patterns_and_standard_input(
    run: str,
    paths: list[str],
    stdin: str,
    expected: list[str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(stdin))
    assert main(["predict", run, *paths, "--csv", "-"]) == 0
    found = [row["path"] for row in rows(capsys.readouterr().out)]
    assert found == [f"photos/{name}" for name in expected]


def test_name_with_brackets_is_a_file_and_not_a_pattern(run: str, photos: Path) -> None:
    shutil.copy(photos / "a.png", photos / "[1].png")
    assert main(["predict", run, "photos/[1].png", "--csv", "p.csv"]) == 0
    assert len(rows(Path("p.csv").read_text())) == 1


def test_unreadable_files_do_not_stop_the_others(
    run: str, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (photos / "aa.png").write_bytes((photos / "a.png").read_bytes()[:60])
    command = ["predict", run, "photos", "missing.png", "--csv", "p.csv", "--batch-size", "2"]
    assert main(command) == 1
    assert len(rows(Path("p.csv").read_text())) == 3
    damaged, missing = capsys.readouterr().err.splitlines()
    assert damaged.startswith("error: photos/aa.png: the image is ")
    assert missing == "error: missing.png: the image is missing; restore the file"


def test_only_unreadable_files(run: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict", run, "x.png", "--csv", "-", "--features", "f.npz"]) == 1
    captured = capsys.readouterr()
    assert rows(captured.out) == []
    assert len(captured.err.splitlines()) == 1
    assert np.load("f.npz")["features"].shape == (0, 16)


def test_features_and_attention_are_those_of_the_network(run: str) -> None:
    assert main(["predict", run, "photos", "--features", "f.npz", "--workers", "1"]) == 0
    with np.load("f.npz") as arrays:
        paths = arrays["paths"].tolist()
        assert paths == ["photos/a.png", "photos/b.png", "photos/inner/c.png"]
        model = ccloss.load(run)
        (expected,) = [output for _, output, _ in model.outputs(paths, batch_size=3, workers=0)]
        np.testing.assert_array_equal(arrays["features"], expected.features)
        np.testing.assert_array_equal(arrays["attention"], expected.attention)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "paths must name at least one image"),
        (["photos/*.gif"], "no file matches photos/*.gif"),
        (["empty"], "empty holds no images"),
        (["photos", "--top", "0"], "top must be an integer of at least 1, got 0"),
        (["photos", "--batch-size", "0"], "must be an integer of at least 1, got 0"),
        (["photos", "--tpo", "3"], "unknown option --tpo"),
        (["photos", "--csv", "--json", "p.json"], "must not start with two hyphens, got --json"),
        (["photos", "--csv", "no/p.csv"], "no is no folder"),
        (["photos", "--features", "f.csv"], "--features must end in .npz, got f.csv"),
        (["photos", "--device", "tpu"], "device must be one of this machine, got 'tpu'"),
    ],
)
def test_bad_input_is_one_line(
    run: str, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("empty").mkdir()
    assert main(["predict", run, *arguments]) == 2
    captured = capsys.readouterr()
    (line,) = captured.err.splitlines()
    assert message in line
    assert captured.out == ""


def test_export_compares_with_the_test_images_of_the_run(
    run: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", run, "--format", "torch"]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("largest difference of a logit on 50 images: ")
    assert second == "model.pt2"
    assert main(["predict", "model.pt2", "photos", "--csv", "p.csv"]) == 0
    assert main(["predict", run, "photos", "--csv", "q.csv"]) == 0
    exported, original = (rows(Path(name).read_text()) for name in ("p.csv", "q.csv"))
    assert [row["class_1"] for row in exported] == [row["class_1"] for row in original]
    assert main(["predict", "model.pt2", "photos", "--features", "f.npz"]) == 2
    assert "--features needs a run or its weights" in capsys.readouterr().err


def test_export_compares_with_given_images(run: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["export", run, "--format", "hub", "--images", "photos", "--out", "card"]) == 0
    assert "on 3 images: 0\n" in capsys.readouterr().out
    assert main(["predict", "card", "photos"]) == 0


def test_push_prints_the_address(
    run: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    push = mock.create_autospec(hub.push, return_value="https://hub.invalid/commit/1")
    monkeypatch.setattr(hub, "push", push)
    assert main(["push", run, "owner/name", "--private"]) == 0
    assert push.call_args.kwargs == {"private": True}
    assert capsys.readouterr().out == "https://hub.invalid/commit/1\n"
