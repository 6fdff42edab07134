"""Every code block of the README and of the site is executed."""

import json
import re
import shlex
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from markdown_blocks import PAGES, ROOT, blocks
from PIL import Image

from ccloss.cli import main
from ccloss.cli.app import app
from ccloss.losses import LOSSES

RESULTS = (ROOT / "docs" / "results.md", ROOT / "docs" / "study.md")
"""Pages whose commands take hours; the records are committed."""
DOCUMENTS = [*PAGES, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"]


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def commands(code: str) -> list[str]:
    """The command lines of a shell block, without comments."""
    lines = [line.partition(" #")[0].strip() for line in code.replace("\\\n", "").splitlines()]
    return [line for line in lines if line]


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder with ``photos``: two classes of 16x16 images."""
    random = np.random.default_rng(0)
    for split, count in (("train", 40), ("test", 8)):
        for label, brightness in (("dark", 0), ("light", 128)):
            folder = tmp_path / "photos" / split / label
            folder.mkdir(parents=True)
            for number in range(count):
                pixels = random.integers(0, 128, (16, 16, 3)) + brightness
                Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{number}.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.filterwarnings("default:.*fork:DeprecationWarning")
@pytest.mark.parametrize("page", [page for page in PAGES if page not in RESULTS], ids=name)
def test_blocks_run(page: Path, workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Steps of networks at 224 px are timed in tests/bench/campaign/test_cost.py.
    monkeypatch.setattr("ccloss.bench.campaign.cost.seconds_per_step", lambda config, classes: 0.5)
    names: dict[str, object] = {}
    losses = dict(LOSSES)
    try:
        for block in blocks(page, "python", "sh"):
            if block.not_run:
                continue
            if block.language == "python":
                exec(compile(block.code, name(page), "exec"), names)
                continue
            for command in commands(block.code):
                run(command)
    finally:
        LOSSES.clear()
        LOSSES.update(losses)


def run(command: str) -> None:
    """Run a command of ccloss; check that anything else exists."""
    program, *arguments = shlex.split(command)
    if program == "ccloss":
        assert main(arguments) == 0, command
    elif program == "make":
        assert arguments[0] in make_targets(), command
    else:
        assert (program, arguments[0]) == ("pip", "install"), command
        assert set(re.findall(r"\[(\w+)\]", command)) <= extras(), command


def make_targets() -> set[str]:
    return set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def extras() -> set[str]:
    section = (ROOT / "pyproject.toml").read_text().partition("[project.optional-dependencies]")[2]
    return set(re.findall(r"^(\w+) = \[", section.partition("\n[")[0], re.MULTILINE))


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_commands_that_are_not_run_are_valid(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT)  # for the benchmarks
    for block in blocks(page, "sh"):
        if not block.not_run and page not in RESULTS:
            continue
        for command in commands(block.code):
            if command.startswith("python -m benchmarks."):
                assert find_spec(command.split()[2]) is not None
                continue
            if command.startswith("sh "):
                assert (ROOT / command.split()[1]).is_file()
                continue
            _, found, arguments = command.partition("ccloss ")
            assert found, command
            tokens = shlex.split(arguments.replace("--train-limit N", "--train-limit 96"))
            tokens = [token.replace("--loss.", "--loss-options.") for token in tokens]
            app.parse_args(tokens, exit_on_error=False, print_error=False)


def test_quickstart_notebook_runs(workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cells = json.loads((ROOT / "docs" / "quickstart.ipynb").read_text())["cells"]
    names: dict[str, object] = {}
    for cell in cells:
        if cell["cell_type"] == "code":
            assert cell["outputs"] == [], "outputs are not stored"
            exec(compile("".join(cell["source"]), "quickstart.ipynb", "exec"), names)
    printed = capsys.readouterr().out
    accuracy = re.search(r"accuracy (\d\.\d+), attention ratio", printed)
    assert accuracy is not None
    assert float(accuracy[1]) > 0.8
    assert "model.safetensors" in printed


@pytest.mark.parametrize("document", DOCUMENTS, ids=name)
def test_links_to_files_exist(document: Path) -> None:
    generated = {"cli.md", "contributing.md", "changelog.md", "quickstart.md"}
    for target in re.findall(r"\]\((?!https?:|#)([^)#\s]+)", document.read_text()):
        path = (document.parent / target).resolve()
        assert path.exists() or path.name in generated, f"{name(document)}: {target}"


def test_make_targets_of_the_documents_exist() -> None:
    named = {
        target
        for document in DOCUMENTS
        for target in re.findall(r"`make ([a-z]+)", document.read_text())
    }
    assert {"test", "site", "oldest"} <= named <= make_targets()
