"""What the documents show is run, and what they state is rebuilt."""

import re
import runpy
import shlex
from pathlib import Path

import pytest

from ccloss.bench.report import tables
from ccloss.bench.results import read_runs
from ccloss.cli import main
from ccloss.cli.app import app
from ccloss.losses import LOSSES
from ccloss.training.records import RunFolder

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)


def test_python_of_the_readme_runs() -> None:
    names: dict[str, object] = {}
    for block in blocks(README, "python"):
        exec(block, names)
    assert {"terms", "ratio"} <= set(names)


COMMANDS = [
    line.split("#")[0].strip()
    for block in blocks(README, "sh")
    for line in block.splitlines()
    if line.startswith("ccloss ")
]


@pytest.mark.parametrize("command", COMMANDS)
def test_commands_of_the_readme_are_understood(command: str) -> None:
    app.parse_args(shlex.split(command)[1:], exit_on_error=False, print_error=False)


def test_there_are_commands_of_every_kind() -> None:
    assert {command.split()[1] for command in COMMANDS} == {
        "train",
        "evaluate",
        "compare",
        "reproduce",
        "report",
        "losses",
        "data",
    }


def test_make_targets_of_the_documents_exist() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"make ([a-z]+)", README + (ROOT / "CONTRIBUTING.md").read_text()))
    assert {"demo", "test"} <= named <= targets | {"sure", "of"}


@pytest.mark.parametrize(
    ("document", "results", "order"),
    [
        ("README.md", "digits", "ce,ce+cam,cc"),
        (
            "docs/losses.md",
            "losses",
            "ce,ce+cam,focal,a-softmax,mc,ical,fical,center,cosface,arcface,cc",
        ),
    ],
)
def test_tables_of_the_documents_are_those_of_their_records(
    document: str, results: str, order: str
) -> None:
    runs = read_runs(ROOT / "benchmarks" / "results" / f"{results}.jsonl")
    methods = order.split(",")
    records = sorted(runs.records, key=lambda record: methods.index(record.method))
    table = tables.to_markdown(tables.comparison(records), tables.describe(records))
    assert shown(document, results).split() == table.split()


def shown(document: str, mark: str) -> str:
    text = (ROOT / document).read_text()
    found = re.search(rf"<!-- {mark}:.*?-->\n(.*?)<!-- end -->", text, re.DOTALL)
    assert found is not None
    return found[1]


def test_results_are_those_of_their_records(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT)
    from benchmarks import write_results

    assert write_results.text() == (ROOT / "docs" / "results.md").read_text()


def test_performance_is_what_the_benchmarks_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT)
    from benchmarks import write_performance

    assert write_performance.text() == (ROOT / "docs" / "performance.md").read_text()


@pytest.mark.parametrize(
    "command",
    [
        line
        for block in blocks((ROOT / "docs" / "results.md").read_text(), "sh")
        for line in block.splitlines()
    ],
)
def test_commands_of_the_results_are_understood(command: str) -> None:
    tokens = shlex.split(command.replace("--train-limit N", "--train-limit 96"))
    assert tokens[0] == "ccloss"
    app.parse_args(
        [token.replace("--loss.", "--loss-options.") for token in tokens[1:]],
        exit_on_error=False,
        print_error=False,
    )


def test_one_s_own_loss_of_the_documents_trains(tmp_path: Path) -> None:
    (block,) = blocks((ROOT / "docs" / "losses.md").read_text(), "python")
    try:
        exec(block, {})
        command = ["train", "--data", "digits", "--epochs", "1", "--train-limit", "64"]
        assert main([*command, "--loss", "squared", "--out", str(tmp_path / "run")]) == 0
        terms = RunFolder(tmp_path / "run").read_metrics()[0]["terms"]
        assert terms["total"] == pytest.approx(terms["ce"] + 0.01 * terms["size"], rel=1e-5)
    finally:
        LOSSES.pop("squared", None)


def test_files_that_the_documents_point_to_exist() -> None:
    for document in (
        "README.md",
        "CONTRIBUTING.md",
        "docs/decisions.md",
        "docs/losses.md",
        "docs/results.md",
        "docs/performance.md",
    ):
        text = (ROOT / document).read_text()
        for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", text):
            assert (ROOT / document).parent.joinpath(target).exists(), f"{document}: {target}"


def test_rooms_of_the_guide_are_those_of_the_package() -> None:
    guide = (ROOT / "CONTRIBUTING.md").read_text()
    listed = set(re.findall(r"^      (\w+(?:\.py|/))", guide, re.MULTILINE))
    package = ROOT / "src" / "ccloss"
    rooms = {path.name for path in package.glob("*.py") if not path.name.startswith("__")}
    rooms |= {f"{path.parent.name}/" for path in package.glob("*/__init__.py")}
    assert listed == rooms


@pytest.mark.parametrize("example", sorted((ROOT / "examples").glob("*.py")), ids=lambda p: p.stem)
def test_examples_run(example: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(str(example), run_name="__main__")
    last = capsys.readouterr().out.splitlines()[-1]
    accuracy = re.search(r"accuracy (0\.\d+)", last)
    assert accuracy is not None
    assert float(accuracy[1]) > 0.8
