"""A campaign on a local Ray cluster of two nodes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from campaigns import small_plan
from ccloss.bench.campaign import executors
from ccloss.errors import InputError

pytest.importorskip("ray", reason="needs ray: pip install 'ccloss[ray]'")

# In a separate process: Ray starts servers and emits warnings.
SCRIPT = """
import json
import sys
import threading
import time
from pathlib import Path

from ray.cluster_utils import Cluster

from campaigns import Log, small_plan
from ccloss.bench.campaign import scheduler
from ccloss.bench.campaign.executors import RayExecutor


class KillsNode(Log):
    \"\"\"Kills a node while both execute a run.\"\"\"

    def started(self, run):
        super().started(run)
        if len(self.started_runs) == 2:
            threading.Thread(target=self._kill).start()

    def _kill(self):
        while not all(run.folder.metrics.exists() for run in runs[:2]):
            time.sleep(0.01)
        nodes.remove_node(second, allow_graceful=False)


runs = small_plan(Path(sys.argv[1]), rounds=2, epochs=20)
nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
second = nodes.add_node(num_cpus=1)
log = KillsNode()
with RayExecutor(nodes.address) as executor:
    slots = executor.slots
    failures = scheduler.run_campaign(runs, executor, observer=log)
nodes.shutdown()
found = {
    "slots": slots,
    "failures": [failure.error for failure in failures],
    "ended": [outcome.run.name for outcome in log.outcomes],
    "started": len(log.started_runs),
}
Path(sys.argv[2]).write_text(json.dumps(found))
"""


def test_killed_node_loses_no_run(tmp_path: Path) -> None:
    script, found = tmp_path / "campaign.py", tmp_path / "found.json"
    script.write_text(SCRIPT)
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_worker_niceness": "0",  # by default its processes give way to any other work
    }
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path / "runs"), str(found)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    outcome = json.loads(found.read_text())
    assert outcome["slots"] == 2
    assert outcome["failures"] == []
    assert outcome["started"] > 4, "the node was not killed during a run"
    runs = small_plan(tmp_path / "runs", rounds=2, epochs=20)
    assert sorted(outcome["ended"]) == sorted(run.name for run in runs)
    for run in runs:
        assert run.folder.finished
        assert [line["epoch"] for line in run.folder.read_metrics()] == list(range(1, 21))


def test_missing_cluster_is_an_input_error() -> None:
    with (
        pytest.raises(InputError, match=r"no Ray cluster answers at '127.0.0.1:1'"),
        executors.RayExecutor("127.0.0.1:1"),
    ):
        pass


@pytest.mark.parametrize(
    ("resources", "cpus", "gpus", "slots"),
    [
        ({"CPU": 8}, 2, 0, 4),
        ({"CPU": 8, "GPU": 1}, 1, 0.25, 4),
        ({"CPU": 2, "GPU": 1}, 1, 0.25, 2),
        ({"CPU": 8}, 1, 1, 0),
        ({"CPU": 1}, 2, 0, 0),
    ],
)
def test_slots_are_the_runs_that_fit(
    resources: dict[str, float], cpus: float, gpus: float, slots: int
) -> None:
    assert executors._slots(resources, cpus, gpus) == slots
