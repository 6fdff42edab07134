"""What the benchmarks compute from times. No test asserts how fast anything is."""

import contextlib
import json
import math
import pickle
import subprocess
import time
from importlib import import_module
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

ROOT = Path(__file__).parents[2]


@pytest.fixture
def measurement(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(ROOT)
    from benchmarks import measurement

    return measurement


def module_fixture(name: str) -> Any:
    """A fixture that imports a benchmark."""

    @pytest.fixture
    def module(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
        monkeypatch.syspath_prepend(ROOT)
        return import_module(f"benchmarks.{name}")

    return module


gpu_section = module_fixture("gpu_section")
merge_results = module_fixture("merge_results")
device_images = module_fixture("device_images")
device = module_fixture("device")
device_pieces = module_fixture("device_pieces")


@pytest.fixture
def write_performance(monkeypatch: pytest.MonkeyPatch, measurement: ModuleType) -> ModuleType:
    from benchmarks import write_performance

    return write_performance


def test_each_repetition_measures_every_alternative_once(measurement):
    calls = []
    alternatives = {name: lambda name=name: calls.append(name) or len(calls) for name in "abc"}
    seconds = measurement.interleave(alternatives, 10)
    rounds = [calls[start : start + 3] for start in range(0, 30, 3)]
    assert all(sorted(each) == ["a", "b", "c"] for each in rounds)
    assert len({tuple(each) for each in rounds}) > 1
    assert all(len(times) == 10 for times in seconds.values())


def test_ratio_is_taken_within_repetitions(measurement):
    # The ratios are 3, 1 and 2; the ratio of the medians is 3.
    assert measurement.median_ratio([3.0, 1.0, 8.0], [1.0, 1.0, 4.0]) == 2.0


def test_result_file_names_machine_and_threads(measurement, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(measurement, "RESULTS", tmp_path)
    measurement.write("step", seconds={"ce": [1.0]})
    content = json.loads((tmp_path / "step.json").read_text())
    assert content["threads"] >= 1
    assert content["provenance"]["device"] == "cpu"
    assert content["seconds"] == {"ce": [1.0]}


def test_page_without_results_reads_not_measured(write_performance, monkeypatch, tmp_path):
    monkeypatch.setattr(write_performance, "RESULTS", tmp_path)
    page = write_performance.text()
    assert page.count("\nnot measured\n") == 5
    assert page.count("| not measured") == 10
    assert "has not run on a GPU yet" in page


def test_step_table_shows_ratios_to_cross_entropy(write_performance):
    seconds = {"ce": [1.0, 2.0], "ce+cam": [2.0, 4.0], "cc": [3.0, 6.0]}
    text = write_performance.step({"seconds": seconds})
    assert "`cc` relative to `ce+cam`: 1.500" in text
    assert "3.000" in text


def write_rows(folder: Path, piece: str, rows: list[dict[str, Any]], **heading: Any) -> None:
    """A result file of a piece of the GPU benchmark."""
    origin = {"device": "GPU", "versions": {"torch": "2.11"}, "cuda": "13", "driver": "580"}
    lines = [{"provenance": {**origin, "commit": "abc"}, "dry_run": False, **heading}, *rows]
    text = "".join(f"{json.dumps(line)}\n" for line in lines)
    (folder / f"device-{piece}.jsonl").write_text(text)


def step_row(alternative: str, seconds: float, **fields: Any) -> dict[str, Any]:
    main = {"data": "cifar100", "backbone": "resnet18", "precision": "bf16", "loss": "ce"}
    return {**main, "alternative": alternative, "steps": 10, "seconds": [seconds], **fields}


def test_gpu_section_shows_ratios_of_steps_per_second(gpu_section, tmp_path):
    steps = [
        step_row("eager", 6.0),
        step_row("captured", 9.0),
        step_row("captured", 1.0),
        step_row("captured", 1.1, loss="ce+cam"),
        step_row("captured", 1.21, loss="cc"),
        {**step_row("timm", 1.0), "error": "out of memory"},
    ]
    write_rows(tmp_path, "steps", steps)
    profiled = step_row("captured", 2.0, kernels_per_step=250.0, busy_seconds=0.186)  # of 0.2
    write_rows(tmp_path, "profile", [profiled])
    rounds = [{"rounds": count, "layout": "graphs", "steps": 10, "seconds": [seconds]}
              for count, seconds in ((1, 1.0), (5, 2.5))]  # fmt: skip
    write_rows(tmp_path, "rounds", rounds)
    text = gpu_section.section(tmp_path)
    assert "Device: GPU (torch 2.11, CUDA 13, driver 580, commit abc)." in text
    cells = dict(
        tuple(cell.strip() for cell in line.strip("|").rsplit("|", 1))
        for line in text.splitlines()
        if line.startswith("| ")
    )
    name = "captured step, ResNet18, batch 32, bf16: times the steps/s of"
    assert cells[f"{name} eager"] == "6.00"  # the later of two rows counts
    assert cells[f"{name} timm"] == "not measured"  # a row with an error is no measurement
    assert cells["step of CC: times the time of CE + CAM"] == "1.10"
    assert cells["five rounds in one process: times the time of one round"] == "2.50"
    assert cells["share of time the GPU is busy during replay"] == "93 %"
    assert cells["kernels of a captured step"] == "250"
    five = "five rounds of 300 epochs of ResNet18 on CIFAR-100, without evaluation (estimate)"
    assert cells[five] == f"{300 * 1562 * 0.25 / 3600:.1f} h"  # 1,562 steps an epoch
    assert cells["all of Table 1, one run at a time (estimate)"] == "not measured"


def test_hours_of_table_1_are_the_steps_of_its_runs(gpu_section, tmp_path):
    data_sets = {"mnist": "captured", "cifar100": "captured", "cars196": "eager"}
    steps = [
        step_row(alternative, 10.0, data=data, backbone=backbone, precision="fp32")
        for data, alternative in data_sets.items()
        for backbone in ("vgg16", "resnet18")
    ]
    write_rows(tmp_path, "steps", steps)
    # one second a step; 7 rows, 2 backbones, 5 rounds, 300 epochs
    expected = 7 * 2 * 5 * 300 * (60_000 // 32 + 50_000 // 32 + 8_144 // 16)
    assert gpu_section.table1_seconds(gpu_section.Measurements(tmp_path)) == expected


def test_merging_adds_new_lines_and_rejects_a_dry_run(merge_results, tmp_path):
    out, results = tmp_path / "out", tmp_path / "results"
    out.mkdir()
    results.mkdir()
    for started in ("1", "2"):
        write_rows(out, "steps", [step_row("eager", 1.0)], started=started)
        merge_results.merge_device(out, results)
        merge_results.merge_device(out, results)
    assert len((results / "device-steps.jsonl").read_text().splitlines()) == 4
    write_rows(out, "steps", [], dry_run=True)
    with pytest.raises(ValueError, match="dry run"):
        merge_results.merge_device(out, results)


def test_packed_images_are_unpacked_without_loss(device_images, monkeypatch, tmp_path):
    monkeypatch.setattr(device_images, "PART_BYTES", 40_000)
    monkeypatch.setattr(device_images, "COLUMN", 8)
    generator = np.random.default_rng(0)
    splits = {
        split: (
            generator.integers(0, 256, (count, 32, 32, 3), dtype=np.uint8),
            generator.integers(0, 3, count).tolist(),
        )
        for split, count in (("train", 20), ("test", 5))
    }
    parts = device_images.pack(splits, ["a", "b", "c"], tmp_path / "packed")
    assert len(parts) > 1
    device_images.unpack(tmp_path / "packed", tmp_path / "data")
    for split, (pixels, labels) in splits.items():
        stored = pickle.loads((tmp_path / "data" / "cifar-100-python" / split).read_bytes())
        assert stored["fine_labels"] == labels
        assert (stored["data"].reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1) == pixels).all()
    parts[-1].unlink()
    with pytest.raises(ValueError, match="transfer all parts"):
        device_images.unpack(tmp_path / "packed", tmp_path / "data")


def test_every_piece_of_the_gpu_benchmark_runs_on_a_cpu(device_pieces, tmp_path):
    settings = device_pieces.Settings(
        out=tmp_path, data=None, device="cpu", steps=2, dry_run=True, deadline=math.inf
    )
    for piece in ("steps", "rounds", "loss", "profile", "training"):
        rows = list(getattr(device_pieces, piece)(settings))
        assert rows
        assert not [row["error"] for row in rows if row.get("error")], piece
    assert len((tmp_path / "digits-1-epochs.jsonl").read_text().splitlines()) == 3


def test_busy_time_is_that_of_at_least_one_kernel(device_pieces, monkeypatch):
    def event(start: float, end: float, name: str = "kernel", device: str = "CUDA") -> Any:
        return SimpleNamespace(
            time_range=SimpleNamespace(start=start, end=end),
            device_type=SimpleNamespace(name=device),
            is_user_annotation=False,
            name=name,
        )

    events = [event(0, 4e6), event(1e6, 2e6), event(3e6, 5e6), event(7e6, 8e6)]
    events += [event(9e6, 10e6, "Memcpy HtoD"), event(0, 10e6, device="CPU")]
    profiler = contextlib.nullcontext(SimpleNamespace(events=lambda: events))
    monkeypatch.setattr(torch.profiler, "profile", lambda activities: profiler)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    settings = device_pieces.Settings(Path(), None, "cuda", 1, False, math.inf)
    found = device_pieces._profile(lambda: None, settings, count=2)
    assert found == {"kernels_per_step": 2.0, "busy_seconds": pytest.approx(3.0)}


def test_a_piece_that_does_not_end_is_killed_with_its_processes(device, tmp_path):
    started = tmp_path / "started"
    script = f"sleep 600 & echo $! > {started}; wait"
    with pytest.raises(subprocess.TimeoutExpired):
        device.run_group(["sh", "-c", script], 2)
    status = Path("/proc", started.read_text().strip(), "stat")
    for _ in range(100):  # the system removes it when its new parent has seen its end
        if not status.exists() or status.read_text().rpartition(")")[2].split()[0] == "Z":
            return
        time.sleep(0.1)
    pytest.fail("the process that the piece had started is still running")


@pytest.mark.parametrize(("seconds", "expected"), [(3e-3, 29), (None, 29), (1e-3, 89)])
def test_epochs_of_real_rounds_fit_the_time(device_pieces, tmp_path, seconds, expected):
    if seconds:
        row = {"rounds": 3, "layout": "graphs", "steps": 10, "seconds": [10 * seconds]}
        write_rows(tmp_path, "rounds", [row])
    deadline = time.monotonic() + 200.5
    settings = device_pieces.Settings(tmp_path, Path(), "cuda", 1, False, deadline)
    assert device_pieces._fitting_epochs(settings) == expected
