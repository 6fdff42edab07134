"""A campaign whose runs are each done by two processes."""

import os
import subprocess
import sys
from pathlib import Path

from ccloss.training.records import RunFolder


def test_two_processes_do_a_campaign_together(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node", "2", "-m", "ccloss", "reproduce", "table4", "--data", "digits"]
    command += ["--only", "*/ce", "--rounds", "2", "--epochs", "2", "--train-limit", "130"]
    command += ["--test-limit", "51", "--out", str(tmp_path)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    for number in (1, 2):
        folder = RunFolder(tmp_path / "digits" / "convnet" / "ce" / f"round-{number}")
        record = folder.read_record()
        assert record.seed == number - 1
        assert record.evaluation["images"] == 51
        assert [line["step"] for line in folder.read_metrics()] == [4, 8]
        assert done.stderr.count(f"[{number}/2]") == 1  # one voice
    assert done.stdout.count("index.html") == 1
