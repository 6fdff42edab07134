"""Several processes of a launcher train each network of a campaign together."""

import json
import os
import subprocess
import sys
from pathlib import Path

from ccloss.training.records import RunFolder

SCRIPT = """
import json
import sys
from pathlib import Path
import torch
from accelerate.state import PartialState
from ccloss.cli import main
from ccloss.errors import BusyError
from ccloss.training import loop
from ccloss.training.devices import on_main_process

folder = Path(sys.argv[1])
rank = PartialState(cpu=True).process_index
decisions, masks, step = [on_main_process(lambda: rank + 10)], [], loop.train_step

def locked():
    raise BusyError("locked")

try:
    on_main_process(locked)
except BusyError as error:
    decisions.append(str(error))

def recorded_step(*arguments, **options):
    masks.append(torch.nn.functional.dropout(torch.ones(64)).tolist())
    return step(*arguments, **options)

loop.train_step = recorded_step
options = ["--only", "*/ce", "--rounds", "2", "--epochs", "2"]
options += ["--train-limit", "130", "--test-limit", "51", "--out", str(folder / "runs")]
assert main(["reproduce", "table4", "--data", "digits", *options]) == 0
options = ["--loss", "ce", "--seed", "2", "--max-steps", "1", "--out", str(folder / "alone")]
assert main(["train", "--data", "digits", *options]) == 0
(folder / str(rank)).write_text(json.dumps({"decisions": decisions, "masks": masks}))
"""


def test_two_processes_do_a_campaign_together(tmp_path: Path) -> None:
    """The command under a launcher: shared decisions, random numbers of each process, one record.

    Every image is evaluated once, and the progress is printed once.
    """
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node", "2", str(script), str(tmp_path)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    for number in (1, 2):
        folder = RunFolder(tmp_path / "runs" / "digits" / "convnet" / "ce" / f"round-{number}")
        record = folder.read_record()
        assert record.seed == number - 1
        assert record.evaluation["images"] == 51
        assert record.steps == 8
        assert [line["step"] for line in folder.read_metrics()] == [4, 8]
        assert any("batch normalisation" in warning for warning in record.warnings)
        assert done.stderr.count(f"[{number}/2]") == 1
    assert done.stdout.count("index.html") == 1
    assert RunFolder(tmp_path / "alone").read_record().evaluation["images"] == 500
    assert done.stderr.count("epoch 1/1") == 1
    found = [json.loads((tmp_path / rank).read_text()) for rank in "01"]
    assert [each["decisions"] for each in found] == [[10, "locked"]] * 2
    masks = {tuple(mask) for each in found for mask in each["masks"]}
    assert len(masks) == 2 * (2 * 8 + 1)  # processes, rounds, steps, and the step of the last run
