"""Loading a trained model and predicting images in Python."""

import json
import shutil
from pathlib import Path
from unittest import mock

import huggingface_hub
import numpy as np
import pytest
import torch
from PIL import Image

import ccloss
from ccloss.bench.experiment import Experiment
from ccloss.data.loader import eval_loader
from ccloss.data.sources import Dataset
from ccloss.errors import InputError
from ccloss.inference.images import Preprocessing
from ccloss.training.components import load_data
from ccloss.training.loop import train
from ccloss.training.records import RunFolder
from small_runs import small_config


def files(folder: Path) -> list[Path]:
    return sorted(folder.iterdir())


def pixels_of(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.array(image)


def test_attributes_are_those_of_the_run(run: Path) -> None:
    model = ccloss.load(run)
    assert model.classes == tuple("0123456789")
    assert (model.image_size, model.channels) == (8, 1)
    assert not any(module.training for module in model.network.modules())


def test_predictions_are_those_of_the_evaluation_of_the_run(
    run: Path, photos: Path, dataset: Dataset
) -> None:
    record = RunFolder(run).read_record()
    predictions = ccloss.load(run).predict(files(photos), top=10)
    rows = [dict(zip(each.classes, each.probabilities, strict=True)) for each in predictions]
    labels = [str(label) for label in dataset.test.labels.tolist()]
    top1 = [each.classes[0] == label for each, label in zip(predictions, labels, strict=True)]
    top5 = [label in each.classes[:5] for each, label in zip(predictions, labels, strict=True)]
    assert 100 * np.mean(top1) == record.accuracy
    assert 100 * np.mean(top5) == record.evaluation["top5"]
    nll = -np.mean([np.log(row[label]) for row, label in zip(rows, labels, strict=True)])
    assert nll == pytest.approx(record.evaluation["nll"], rel=1e-5)


def test_outputs_are_those_that_the_run_has_stored(run: Path, photos: Path) -> None:
    sample = RunFolder(run).read_sample(RunFolder(run).test_sample)
    images = torch.stack([torch.from_numpy(pixels_of(each)) for each in files(photos)])
    output = ccloss.load(run)(images[:, None])
    assert np.array_equal(output.features[sample.index].numpy(), sample.features)
    assert np.array_equal(output.attention[sample.index].numpy(), sample.attention)
    assert np.array_equal(output.logits[sample.index].argmax(1).numpy(), sample.predictions)


def test_large_images_are_decoded_as_in_the_evaluation(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    for split in ("train", "test"):
        for label in ("a", "b"):
            folder = tmp_path / "data" / split / label
            folder.mkdir(parents=True)
            for number, shape in enumerate([(70, 90, 3), (300, 160, 3), (80, 80, 3)]):
                pixels = random.integers(0, 256, shape, dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{number}.{'jpg' if number else 'png'}")
    config = Experiment(
        data=f"folder:{tmp_path / 'data'}", image_size=66, resize=72, batch_size=4
    ).resolve(channels=3)
    dataset = load_data(config)
    preprocessing = Preprocessing(config.image_size, config.resize, config.channels)
    (batch,) = eval_loader(
        dataset.test, batch_size=8, device="cpu", image_size=66, workers=0
    ).epoch(0)
    for index in range(len(dataset.test)):
        path = dataset.test.location(index)
        assert torch.equal(preprocessing(path, path), batch.images[index])


@pytest.mark.parametrize("workers", [0, 1])
def test_every_kind_of_image_gives_the_same_prediction(
    run: Path, photos: Path, workers: int
) -> None:
    model = ccloss.load(run)
    path = photos / "00.png"
    array = pixels_of(path)
    kinds = [
        path,
        str(path),
        Image.fromarray(array),
        array,
        array[..., None],
        torch.tensor(array)[None],
    ]
    predictions = model.predict(kinds, top=3, workers=workers)
    (expected,) = model.predict(path, top=3)
    assert expected.source == str(path)
    assert [each.source for each in predictions] == [str(path), str(path), "2", "3", "4", "5"]
    for prediction in predictions:
        assert prediction.classes == expected.classes
        assert prediction.probabilities == pytest.approx(expected.probabilities, abs=1e-6)


def test_a_batch_of_pixels_is_several_images(run: Path, dataset: Dataset) -> None:
    model = ccloss.load(run)
    pixels = dataset.test.pixels[:3]
    expected = [each.classes for each in model.predict(list(pixels))]
    assert [each.classes for each in model.predict(pixels)] == expected
    assert [each.classes for each in model.predict(pixels[:, 0].unsqueeze(-1).numpy())] == expected
    assert len(model.predict(pixels[0])) == 1
    assert model.predict([]) == []


def test_probabilities_are_sorted_and_sum_to_one(run: Path, dataset: Dataset) -> None:
    (prediction,) = ccloss.load(run).predict(dataset.test.pixels[0], top=99)
    assert sorted(prediction.classes) == list("0123456789")
    assert list(prediction.probabilities) == sorted(prediction.probabilities, reverse=True)
    assert sum(prediction.probabilities) == pytest.approx(1, abs=1e-6)


def test_color_images_become_gray_for_a_gray_model(run: Path, dataset: Dataset) -> None:
    pixels = dataset.test.pixels[0]
    model = ccloss.load(run)
    assert model.predict(pixels.expand(3, -1, -1)) == model.predict(pixels)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((8, 8)), r"image 0: images must be paths, .* got \(8, 8\) float64"),
        (torch.zeros(2, 8, 8, dtype=torch.uint8), r"image 0: images must be paths"),
        (3, "image 0: images must be paths, .* got .* int"),
        ("missing.png", "missing.png: the image is missing; restore the file"),
        (np.zeros((8, 0), np.uint8), "image 0: images must be paths"),
        (Image.new("F", (8, 8)), "image 0: the image has mode F"),
    ],
)
def test_images_that_cannot_be_used_are_rejected(run: Path, image: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        ccloss.load(run).predict([image])


@pytest.mark.parametrize("options", [{"top": 0}, {"batch_size": 0}, {"workers": -1}])
def test_arguments_out_of_range_are_rejected(run: Path, options: dict[str, int]) -> None:
    (name,) = options
    with pytest.raises(InputError, match=name):
        ccloss.load(run).predict([np.zeros((8, 8), np.uint8)], **options)


@pytest.mark.parametrize("name", ["weights.json", "record.json", "config.json"])
def test_weights_with_a_record_beside_them(run: Path, tmp_path: Path, name: str) -> None:
    shutil.copy(run / "model.safetensors", tmp_path / "weights.safetensors")
    shutil.copy(run / "record.json", tmp_path / name)
    images = np.zeros((8, 8), np.uint8)
    loaded = ccloss.load(tmp_path / "weights.safetensors")
    assert loaded.predict(images) == ccloss.load(run).predict(images)


@pytest.mark.parametrize(
    ("files", "source", "message"),
    [
        ((), "", "has no trained model: it needs model.safetensors and one of .*--resume"),
        (("record.json",), "", "model.safetensors is missing; restore it or train"),
        (("model.safetensors",), "model.safetensors", "has no trained model"),
        ((), "a/b/c", "a/b/c does not exist; give a run folder"),
        (("record.json",), "record.json", "must be a folder or end in .safetensors, .onnx or"),
    ],
)
def test_sources_without_a_model_are_rejected(
    run: Path, tmp_path: Path, files: tuple[str, ...], source: str, message: str
) -> None:
    for name in files:
        shutil.copy(run / name, tmp_path / name)
    with pytest.raises(InputError, match=message):
        ccloss.load(tmp_path / source)


def test_damaged_records_are_rejected(run: Path, tmp_path: Path) -> None:
    shutil.copy(run / "model.safetensors", tmp_path)
    record = json.loads((run / "record.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**record, "unknown": 1}))
    with pytest.raises(InputError, match=r"config.json is not a record of this version"):
        ccloss.load(tmp_path)


def test_unknown_devices_are_rejected(run: Path) -> None:
    with pytest.raises(InputError, match="device must be one of this machine, got 'tpu'"):
        ccloss.load(run, device="tpu")


def test_a_model_of_the_hub_is_downloaded(
    run: Path, monkeypatch: pytest.MonkeyPatch, dataset: Dataset
) -> None:
    download = mock.create_autospec(huggingface_hub.snapshot_download, return_value=str(run))
    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    images = dataset.test.pixels[:2]
    assert ccloss.load("owner/name@v1").predict(images) == ccloss.load(run).predict(images)
    assert download.call_args.args == ("owner/name",)
    assert download.call_args.kwargs["revision"] == "v1"


def test_errors_of_the_hub_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    download = mock.Mock(side_effect=ConnectionError("no\nroute. Details"))
    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    with pytest.raises(InputError, match=r"^owner/name is no folder here and .*\(no route\)"):
        ccloss.load("owner/name")


def test_a_model_of_a_bf16_run_computes_as_its_evaluation(tmp_path: Path, dataset: Dataset) -> None:
    folder = RunFolder(tmp_path / "run")
    train(small_config(precision="bf16", epochs=1), folder, dataset)
    sample = folder.read_sample(folder.test_sample)
    output = ccloss.load(folder.path)(dataset.test.pixels)
    assert np.array_equal(output.features[sample.index].numpy(), sample.features)
