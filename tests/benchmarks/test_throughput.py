"""What the throughput benchmark reads and computes; how fast anything is, no test asserts."""

import sys
import time
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]

LINE = (
    "Train: 0 [   3/16 ( 25%)]  Loss: 4.61 (4.73)  Time: 1.234s,   25.93/s  "
    "(1.300s,   24.62/s)  LR: 1.000e-01  Data: 0.010 (0.200)\n"
)


@pytest.fixture
def throughput(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(ROOT)
    from benchmarks import throughput

    return throughput


def test_reads_the_time_of_the_step_itself(throughput):
    assert throughput.step_seconds(LINE) == 1.234


@pytest.mark.parametrize(
    "line", ["Test: [   0/3]  Time: 0.100 (0.100)", "Scheduled epochs: 1", "AMP not enabled.", ""]
)
def test_passes_over_other_lines(throughput, line):
    assert throughput.step_seconds(line) is None


def test_ends_a_script_after_the_steps_it_wants(throughput, tmp_path):
    script = f"import time\nfor _ in range(3): print({LINE!r}, flush=True)\ntime.sleep(600)"
    started = time.monotonic()
    times = throughput.logged_seconds([sys.executable, "-c", script], tmp_path, steps=3)
    assert times == [1.234] * 3
    assert time.monotonic() - started < 300


def test_says_what_a_script_said_that_failed(throughput, tmp_path):
    script = f"print({LINE!r}); raise SystemExit('no such model')"
    with pytest.raises(RuntimeError, match=r"(?s)after 1 steps.*no such model"):
        throughput.logged_seconds([sys.executable, "-c", script], tmp_path, steps=3)


def test_compares_defaults_with_every_precision_and_the_others_with_their_own(throughput):
    entry = throughput.Entry
    seconds = {
        entry("ccloss", "same fp32"): [2.0, 4.0],
        entry("ccloss", "same bf16"): [1.0, 1.0],
        entry("loop", "defaults"): [4.0, 6.0],
        entry("loop", "same fp32"): [2.0, 4.0],
        entry("loop", "same bf16"): [2.0, 3.0],
    }
    assert throughput.ratios(seconds) == {
        "loop, defaults": {"fp32": [2.0, 1.5], "bf16": [4.0, 6.0]},
        "loop, same fp32": {"fp32": [1.0, 1.0]},
        "loop, same bf16": {"bf16": [2.0, 3.0]},
    }


def test_settings_of_timm_differ_in_layout_optimiser_and_precision_alone(throughput):
    case = throughput.CASES["resnet18-32px"]
    plain, same, half = (
        throughput.timm_options(case, setting, "cpu") for setting in throughput.SETTINGS.values()
    )
    assert same == [*plain, "--channels-last", "--opt-kwargs", "fused=True"]
    assert half == [*same, "--amp", "--amp-dtype", "bfloat16"]


@pytest.mark.parametrize(
    ("name", "shape"), [("vgg16-32px", (3, 32, 32)), ("vgg16-24px", (1, 24, 24))]
)
def test_images_in_memory_come_as_the_network_takes_them(throughput, name, shape):
    image, label = throughput.ImagesInMemory(throughput.CASES[name], 12)[11]
    assert image.shape == shape
    assert label == 11 % throughput.CASES[name].classes
