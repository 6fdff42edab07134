"""Export to ONNX, torch.export and a folder for the Hub."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import huggingface_hub
import numpy as np
import onnxruntime
import pytest
import torch

import ccloss
from ccloss.data.sources import Dataset
from ccloss.errors import InputError
from ccloss.inference import export as exporting
from ccloss.inference.export import Format, config_of, export
from ccloss.inference.hub import push
from ccloss.training.records import RunFolder

KINDS: list[tuple[Format, str]] = [("onnx", "m.onnx"), ("torch", "m.pt2"), ("hub", "hub")]


@pytest.fixture(scope="module")
def exported(
    run: Path, dataset: Dataset, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """Every form that takes uint8."""
    folder = tmp_path_factory.mktemp("exported")
    model = ccloss.load(run)
    for kind, name in KINDS:
        difference = export(model, folder / name, kind, dataset.test.pixels)
        assert difference == 0 if kind == "hub" else difference < 1e-5
    assert sorted(path.name for path in folder.iterdir()) == sorted(name for _, name in KINDS)
    return {kind: folder / name for kind, name in KINDS}


@pytest.mark.parametrize("kind", ["onnx", "torch", "hub"])
def test_exported_model_predicts_as_the_run(
    run: Path, photos: Path, exported: dict[str, Path], kind: str
) -> None:
    images = sorted(photos.iterdir())
    model = ccloss.load(exported[kind])
    assert model.classes == tuple("0123456789")
    assert (model.image_size, model.channels) == (8, 1)
    expected = ccloss.load(run).predict(images)
    for batch_size in (1, 50):  # the size of a batch is not fixed
        found = model.predict(images, batch_size=batch_size)
        assert [each.classes[0] for each in found] == [each.classes[0] for each in expected]
        for one, other in zip(found, expected, strict=True):
            assert one.probabilities == pytest.approx(other.probabilities, abs=1e-5)


def test_onnx_needs_onnxruntime_alone(
    run: Path, dataset: Dataset, exported: dict[str, Path]
) -> None:
    session = onnxruntime.InferenceSession(exported["onnx"])
    (given,) = session.get_inputs()
    (result,) = session.get_outputs()
    assert (given.name, given.type, given.shape[1:]) == ("images", "tensor(uint8)", [1, 8, 8])
    assert result.name == "logits"
    assert isinstance(given.shape[0], str)
    pixels = dataset.test.pixels
    (logits,) = session.run(None, {"images": pixels.numpy()})
    np.testing.assert_allclose(logits, ccloss.load(run)(pixels).logits, atol=1e-5)
    config = json.loads(session.get_modelmeta().custom_metadata_map["ccloss"])
    assert config["classes"] == list("0123456789")
    assert config["preprocessing"] == {"image_size": 8, "resize": 0, "channels": 1}


@pytest.mark.parametrize(("kind", "name"), KINDS[:2])
def test_floats_in_the_unit_interval(
    run: Path, dataset: Dataset, tmp_path: Path, kind: Format, name: str
) -> None:
    export(ccloss.load(run), tmp_path / name, kind, dataset.test.pixels, pixels="float")
    model = ccloss.load(tmp_path / name)
    pixels = dataset.test.pixels
    torch.testing.assert_close(model(pixels).logits, ccloss.load(run)(pixels).logits)
    torch.testing.assert_close(model(pixels / 255).logits, model(pixels).logits)


@pytest.mark.parametrize("kind", ["onnx", "torch"])
def test_float_images_are_rejected_by_a_uint8_model(exported: dict[str, Path], kind: str) -> None:
    with pytest.raises(InputError, match="images must be uint8 for this exported model"):
        ccloss.load(exported[kind])(torch.rand(2, 1, 8, 8))


@pytest.mark.parametrize("kind", ["onnx", "torch"])
def test_exported_logits_cannot_be_exported_or_pushed(
    exported: dict[str, Path], dataset: Dataset, tmp_path: Path, kind: str
) -> None:
    model = ccloss.load(exported[kind])
    with pytest.raises(InputError, match="export needs a run or its weights"):
        export(model, tmp_path / "m", "hub", dataset.test.pixels)
    with pytest.raises(InputError, match="push needs a run or its weights"):
        push(model, "owner/name")


@pytest.mark.parametrize("kind", ["onnx", "torch"])
def test_damaged_files_are_rejected(tmp_path: Path, kind: Format) -> None:
    path = tmp_path / f"m{exporting.SUFFIXES[kind]}"
    path.write_bytes(b"\x00damaged")
    with pytest.raises(InputError, match=r"m\.\w+ cannot be read"):
        ccloss.load(path)


def test_files_of_other_programs_are_rejected(tmp_path: Path) -> None:
    program = torch.export.export(torch.nn.Linear(2, 2), (torch.zeros(1, 2),))
    torch.export.save(program, tmp_path / "m.pt2")
    with pytest.raises(InputError, match="was not made by `ccloss export`"):
        ccloss.load(tmp_path / "m.pt2")


def test_model_that_differs_is_not_written(
    run: Path, dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Scaled(exporting._Logits):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return super().forward(images) * 1.01

    monkeypatch.setattr(exporting, "_Logits", Scaled)
    with pytest.raises(InputError, match=r"differs from the model by .* and is not written"):
        export(ccloss.load(run), tmp_path / "m.pt2", "torch", dataset.test.pixels)
    assert list(tmp_path.iterdir()) == []


def test_existing_files_are_not_overwritten(run: Path, dataset: Dataset, tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_text("mine")
    with pytest.raises(InputError, match=r"m.onnx exists; choose another path"):
        export(ccloss.load(run), tmp_path / "m.onnx", "onnx", dataset.test.pixels)
    assert (tmp_path / "m.onnx").read_text() == "mine"


@pytest.mark.parametrize("package", ["onnx", "onnxscript", "onnxruntime"])
def test_missing_package_is_named_with_its_extra(
    run: Path, dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    message = rf'onnx needs {package} .*; run: pip install "ccloss\[export\]"'
    with pytest.raises(InputError, match=message):
        export(ccloss.load(run), tmp_path / "m.onnx", "onnx", dataset.test.pixels)


# ---- Hub -----------------------------------------------------------------------------------------


def test_hub_folder_has_configuration_and_card(run: Path, exported: dict[str, Path]) -> None:
    folder = exported["hub"]
    names = {path.name for path in folder.iterdir()}
    assert names == {"model.safetensors", "config.json", "README.md"}
    record = RunFolder(run).read_record()
    config = json.loads((folder / "config.json").read_text())
    assert config["classes"] == record.classes
    assert config["provenance"] == record.provenance
    card = (folder / "README.md").read_text()
    assert "library_name: ccloss" in card
    assert f"| Top-1 accuracy (%) | {record.accuracy:.4g} |" in card
    assert record.provenance["data"]["train"] in card


def test_paths_of_this_machine_are_not_published(run: Path) -> None:
    record = RunFolder(run).read_record()
    record.experiment["data"] = "folder:/home/me/secret/birds"
    assert config_of(record)["experiment"]["data"] == "folder:birds"
    assert record.experiment["data"] == "folder:/home/me/secret/birds"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> mock.Mock:
    """A substitute for the Hub that keeps the uploaded files in ``tmp_path/owner/name``."""
    api = mock.create_autospec(huggingface_hub.HfApi, instance=True)

    def upload(*, repo_id: str, folder_path: Path, commit_message: str) -> SimpleNamespace:
        target = tmp_path / repo_id
        target.mkdir(parents=True)
        for path in folder_path.iterdir():
            (target / path.name).write_bytes(path.read_bytes())
        return SimpleNamespace(commit_url=f"https://hub.invalid/{repo_id}/commit/1")

    def download(repo_id: str, **options: object) -> str:
        return str(tmp_path / repo_id)

    api.upload_folder.side_effect = upload
    monkeypatch.setattr(huggingface_hub, "HfApi", lambda: api)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    return api


def test_pushed_model_is_loaded_by_its_name(run: Path, dataset: Dataset, hub: mock.Mock) -> None:
    model = ccloss.load(run)
    assert push(model, "owner/name", private=True) == "https://hub.invalid/owner/name/commit/1"
    hub.create_repo.assert_called_once_with("owner/name", private=True, exist_ok=True)
    pixels = dataset.test.pixels
    assert ccloss.load("owner/name").predict(pixels) == model.predict(pixels)


def test_errors_of_the_upload_are_one_line(run: Path, hub: mock.Mock) -> None:
    hub.create_repo.side_effect = ConnectionError("401\nunauthorized")
    with pytest.raises(InputError, match=r"^owner/name cannot be uploaded \(401 unauthorized\); "):
        push(ccloss.load(run), "owner/name")


def test_push_without_its_package_names_the_extra(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(InputError, match=r'run: pip install "ccloss\[hub\]"'):
        push(ccloss.load(run), "owner/name")
    with pytest.raises(InputError, match=r'run: pip install "ccloss\[hub\]"'):
        ccloss.load("owner/name")
