"""Every example trains on the digits and prints an accuracy at the end."""

import re
import runpy
import subprocess
import sys

import pytest
from markdown_blocks import ROOT

EXAMPLES = ROOT / "examples"
SCRIPTS = {path.stem for path in EXAMPLES.glob("*.py")} - {"digits"}  # shared by the others
NEEDS = {"with_lightning": "lightning", "with_transformers": "transformers"}


def last_accuracy(text: str) -> float:
    return float(re.findall(r"accuracy (\d\.\d+)", text)[-1])


@pytest.mark.filterwarnings("default")  # the frameworks use deprecated functions of torch
@pytest.mark.parametrize("name", sorted(SCRIPTS - {"distributed"}))
def test_example_trains(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if name in NEEDS:
        pytest.importorskip(NEEDS[name], reason='needs pip install "ccloss[examples]"')
    monkeypatch.syspath_prepend(EXAMPLES)
    runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
    assert last_accuracy(capsys.readouterr().out) > 0.8


def test_distributed_example_trains() -> None:
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [sys.executable, *launch, str(EXAMPLES / "distributed.py")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert last_accuracy(done.stdout) > 0.8


def test_page_names_every_example() -> None:
    page = (ROOT / "docs" / "guides" / "integrations.md").read_text()
    assert set(re.findall(r"examples/(\w+)\.py", page)) == SCRIPTS
