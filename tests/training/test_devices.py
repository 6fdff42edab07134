"""Precision, environment and processes."""

from pathlib import Path

import pytest
import torch

from ccloss.errors import InputError
from ccloss.training import devices
from ccloss.training.devices import check_environment, fp32_without_tf32, on_main_process


@pytest.mark.skipif(not Path("/proc/cpuinfo").exists(), reason="no /proc/cpuinfo")
def test_bf16_of_the_processor_is_what_the_kernel_reports() -> None:
    flags = Path("/proc/cpuinfo").read_text().split()
    assert devices.has_bf16(torch.device("cpu")) == ("avx512_bf16" in flags or "bf16" in flags)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "4"),
        ("ACCELERATE_DYNAMO_BACKEND", "INDUCTOR"),
        ("ACCELERATE_MIXED_PRECISION", "fp16"),
        ("ACCELERATE_MIXED_PRECISION", "bf16"),
        ("ACCELERATE_USE_FSDP", "true"),
        ("ACCELERATE_USE_DEEPSPEED", "1"),
    ],
)
def test_variables_that_would_change_training_are_rejected(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(InputError, match=f"{name}={value}.*unset it"):
        check_environment("fp32")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "1"),
        ("ACCELERATE_DYNAMO_BACKEND", "NO"),
        ("ACCELERATE_MIXED_PRECISION", "no"),
        ("ACCELERATE_MIXED_PRECISION", "bf16"),
        ("ACCELERATE_USE_FSDP", "false"),
    ],
)
def test_variables_that_a_launcher_sets_without_effect_are_accepted(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(name, value)
    check_environment("bf16")


@pytest.mark.parametrize(("precision", "within"), [("fp32", False), ("bf16", True)])
def test_fp32_runs_do_not_use_tf32(
    monkeypatch: pytest.MonkeyPatch, precision: str, within: bool
) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", True)
    with fp32_without_tf32(precision):  # type: ignore[arg-type]
        assert torch.backends.cudnn.allow_tf32 is within
    assert torch.backends.cudnn.allow_tf32 is True


def test_a_single_process_decides_by_itself() -> None:
    assert on_main_process(lambda: 3) == 3
    with pytest.raises(ZeroDivisionError):
        on_main_process(lambda: 1 // 0)
