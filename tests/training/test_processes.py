"""Several processes of a launcher train one network."""

import os
import subprocess
import sys
from pathlib import Path

from ccloss.training.records import RunFolder
from runs import small_data

DATA = small_data()


def test_two_processes_train_one_network(tmp_path: Path) -> None:
    """The command under a launcher: every image evaluated once, one record, one voice."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += [
        "--nproc-per-node",
        "2",
        "-m",
        "ccloss",
        "train",
        "--data",
        "digits",
        "--epochs",
        "2",
    ]
    command += ["--train-limit", "130", "--test-limit", "51", "--out", str(tmp_path / "run")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    record = RunFolder(tmp_path / "run").read_record()
    assert record.evaluation["images"] == 51
    assert record.steps == 8
    assert done.stderr.count("epoch 2/2") == 1
    assert any("batch normalisation" in warning for warning in record.warnings)


DECISIONS = """
import sys
from pathlib import Path
import torch
from accelerate.state import PartialState
from ccloss.errors import BusyError
from ccloss.training.devices import on_main_process

state = PartialState(cpu=True)
results = [on_main_process(lambda: state.process_index + 10)]

def locked():
    raise BusyError("locked")

try:
    on_main_process(locked)
except BusyError as error:
    results.append(str(error))
(Path(sys.argv[1]) / str(state.process_index)).write_text(repr(results))
"""


def test_the_main_process_decides_for_all(tmp_path: Path) -> None:
    script = tmp_path / "decisions.py"
    script.write_text(DECISIONS)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node", "2", str(script), str(tmp_path)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    subprocess.run(command, env=environment, capture_output=True, timeout=240, check=True)
    assert [(tmp_path / rank).read_text() for rank in "01"] == ["[10, 'locked']"] * 2
