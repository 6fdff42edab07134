"""Training on a GPU: the captured step, several runs in one process, and the loss."""

from concurrent.futures import wait
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from ccloss.bench.campaign.executors import InterleavingExecutor
from ccloss.functional import channel_correlation
from ccloss.losses import LOSSES
from ccloss.training import loop
from ccloss.training.records import RunFolder
from small_runs import Interrupted, Listener, small_config, small_data

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU"),
]
DATA = small_data()

TOLERANCE = {"rtol": 2e-3, "atol": 2e-4}
"""Sums of atomic additions differ in their last bits, and training amplifies the difference."""


def trained(folder: Path, **fields: Any) -> tuple[dict[str, Tensor], list[Any]]:
    """Weights and metrics of a run of which no step was eager."""
    reporter = Listener()
    loop.train(small_config(**fields), RunFolder(folder), DATA, reporter=reporter)
    assert reporter.warnings == []
    return outcome(folder)


def outcome(folder: Path) -> tuple[dict[str, Tensor], list[Any]]:
    run = RunFolder(folder)
    return load_file(run.model), [line["terms"]["total"] for line in run.read_metrics()]


def assert_same(first: Any, second: Any) -> None:
    assert first[1] == pytest.approx(second[1], rel=1e-2)
    for name, value in first[0].items():
        torch.testing.assert_close(second[0][name], value, **TOLERANCE)


@pytest.mark.parametrize("loss", LOSSES)
def test_captured_steps_are_the_eager_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, loss: str
) -> None:
    fields = {"loss": loss, "flip": 0.5, "max_steps": 6, "learning_rate": 0.01}
    captured = trained(tmp_path / "captured", **fields)
    monkeypatch.setattr(loop, "make_static_step", lambda config, run, warn: None)
    assert_same(captured, trained(tmp_path / "eager", **fields))


def test_bf16_is_captured(tmp_path: Path) -> None:
    weights, _ = trained(tmp_path, precision="bf16", epochs=1)
    assert all(bool(value.isfinite().all()) for value in weights.values())


def test_resumed_run_is_the_uninterrupted_run(tmp_path: Path) -> None:
    fields = {"loss": "a-softmax", "learning_rate": 0.01}
    whole = trained(tmp_path / "whole", **fields)
    folder = RunFolder(tmp_path / "resumed")
    with pytest.raises(Interrupted):
        loop.train(small_config(**fields), folder, DATA, reporter=Listener(interrupt_after=1))
    loop.train(small_config(**fields), folder, DATA, resume=True)
    assert_same(whole, outcome(folder.path))


def test_runs_in_turn_are_the_runs_alone(tmp_path: Path) -> None:
    # MC draws random masks: each run has random numbers of its own.
    configs = [small_config(loss="mc", seed=seed, learning_rate=0.01) for seed in (1, 2)]
    with InterleavingExecutor(2) as executor:
        futures = [
            executor.submit(
                lambda config: loop.training_steps(
                    config, RunFolder(tmp_path / f"turn-{config.seed}"), DATA
                ),
                config,
            )
            for config in configs
        ]
        wait(futures)
    for config, future in zip(configs, futures, strict=True):
        assert future.result().steps == 12
        alone = trained(tmp_path / f"alone-{config.seed}", loss="mc", seed=config.seed,
                        learning_rate=0.01)  # fmt: skip
        assert_same(alone, outcome(tmp_path / f"turn-{config.seed}"))


def test_step_that_waits_for_the_device_is_eager_with_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compute = LOSSES["ce"].compute

    def waiting(self: Any, output: Any, labels: Any) -> Any:
        output.logits.sum().item()
        return compute(self, output, labels)

    with monkeypatch.context() as patch:
        patch.setattr(LOSSES["ce"], "compute", waiting)
        record = loop.train(small_config(loss="ce", epochs=1), RunFolder(tmp_path / "eager"), DATA)
    assert len(record.warnings) == 1
    assert "not captured" in record.warnings[0]
    assert torch.cuda.current_stream() == torch.cuda.default_stream()
    trained(tmp_path / "captured", loss="ce", epochs=1)


@pytest.mark.parametrize("samples", [32, 1000])
def test_loss_on_the_gpu_is_the_loss_on_the_cpu(samples: int) -> None:
    generator = torch.Generator().manual_seed(0)
    vectors = torch.rand(samples, 64, generator=generator, dtype=torch.float64)
    labels = torch.randint(10, (samples,), generator=generator)
    results = []
    for device in ("cpu", "cuda"):
        leaf = vectors.to(device, torch.float32).requires_grad_()
        value = channel_correlation(leaf, labels.to(device))
        value.backward()
        assert leaf.grad is not None
        results.append((value.detach().cpu(), leaf.grad.cpu()))
    torch.testing.assert_close(results[1], results[0], rtol=1e-4, atol=1e-7)
