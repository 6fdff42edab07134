"""A campaign on a Ray cluster of two nodes on this machine."""

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

# In a process of its own: Ray starts servers, and has warnings that are not ours.
SCRIPT = """
import json
import sys
import threading
import time
from pathlib import Path

from ray.cluster_utils import Cluster

from campaigns import Log, small_plan
from ccloss.bench.campaign import loop
from ccloss.bench.campaign.executors import cluster


class KillsANode(Log):
    \"\"\"Once both nodes are in the midst of a run.\"\"\"

    def begun(self, run):
        super().begun(run)
        if len(self.begun_runs) == 2:
            threading.Thread(target=self._kill).start()

    def _kill(self):
        while not all(run.folder.metrics.exists() for run in runs[:2]):
            time.sleep(0.01)
        nodes.remove_node(second, allow_graceful=False)


runs = small_plan(Path(sys.argv[1]), rounds=6, epochs=20)
nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
second = nodes.add_node(num_cpus=1)
log = KillsANode()
with cluster(nodes.address) as executor:
    slots = executor.slots
    failures = loop.run(runs, executor, observer=log)
nodes.shutdown()
found = {
    "slots": slots,
    "failures": [failure.error for failure in failures],
    "ended": [outcome.run.name for outcome in log.outcomes],
    "begun": len(log.begun_runs),
}
Path(sys.argv[2]).write_text(json.dumps(found))
"""


def test_twelve_runs_on_two_nodes_of_which_one_is_killed(tmp_path: Path) -> None:
    script, found = tmp_path / "campaign.py", tmp_path / "found.json"
    script.write_text(SCRIPT)
    environment = {
        **os.environ,
        "PYTHONPATH": str(Path(__file__).parent.parent),  # the nodes' workers read it as well
        "OMP_NUM_THREADS": "1",
        "RAY_USAGE_STATS_ENABLED": "0",
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
    assert outcome["begun"] > 12, "the node was not killed in the midst of a run"
    runs = small_plan(tmp_path / "runs", rounds=6, epochs=20)
    assert sorted(outcome["ended"]) == sorted(run.name for run in runs)
    for run in runs:
        assert run.folder.finished
        assert [line["epoch"] for line in run.folder.read_metrics()] == list(range(1, 21))


def test_a_cluster_that_is_not_there_is_one_line() -> None:
    with (
        pytest.raises(InputError, match=r"ray names '127.0.0.1:1', where no cluster answers"),
        executors.cluster("127.0.0.1:1"),
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
def test_slots_are_what_finds_room(
    resources: dict[str, float], cpus: float, gpus: float, slots: int
) -> None:
    assert executors._slots(resources, cpus, gpus) == slots
