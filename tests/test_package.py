"""What is installed: its names, its first example, its wheel."""

import doctest
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import ccloss

PROJECT = Path(__file__).parent.parent


@pytest.mark.parametrize("name", ccloss.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(ccloss, name) is not None
    assert name in dir(ccloss)


def test_public_names_are_sorted_and_unique() -> None:
    assert len(set(ccloss.__all__)) == len(ccloss.__all__)


def test_cc_loss_has_two_names() -> None:
    assert ccloss.CCLoss is ccloss.ChannelCorrelationLoss


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'ccloss' has no attribute 'CCLos'"):
        ccloss.CCLos  # noqa: B018


def test_first_example_runs() -> None:
    result = doctest.testmod(ccloss)
    assert result.attempted > 3
    assert result.failed == 0


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """Built from a copy, so that the checkout stays as it is."""
    folder = tmp_path_factory.mktemp("project")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(PROJECT / name, folder / name)
    shutil.copytree(
        PROJECT / "src", folder / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info")
    )
    shutil.copytree(PROJECT / "tests", folder / "tests")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", "dist"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = (folder / "dist").iterdir()
    return zipfile.ZipFile(path)


def test_wheel_has_every_file_of_the_package_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    ours = {
        path.relative_to(PROJECT / "src").as_posix()
        for path in (PROJECT / "src" / "ccloss").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert "ccloss/py.typed" in ours
    assert {name for name in wheel.namelist() if ".dist-info/" not in name} == ours


def test_wheel_says_version_command_and_license(wheel: zipfile.ZipFile) -> None:
    info = f"ccloss-{ccloss.__version__}.dist-info"
    metadata = wheel.read(f"{info}/METADATA").decode()
    assert f"Version: {ccloss.__version__}\n" in metadata
    assert "ccloss = ccloss.cli:main" in wheel.read(f"{info}/entry_points.txt").decode()
    assert f"{info}/licenses/LICENSE" in wheel.namelist()


def test_wheel_requires_torch_alone(wheel: zipfile.ZipFile) -> None:
    metadata = wheel.read(f"ccloss-{ccloss.__version__}.dist-info/METADATA").decode()
    required = re.findall(r"^Requires-Dist: (.*)$", metadata, re.MULTILINE)
    assert [line for line in required if "extra ==" not in line] == ["torch>=2.4"]
    extras = set(re.findall(r"^Provides-Extra: (.*)$", metadata, re.MULTILINE))
    assert {"bench", "ray", "pml", "hub", "export", "examples", "docs", "dev"} <= extras
