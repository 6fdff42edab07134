"""``pip install ccloss`` installs torch alone. The library works with that; the command says so."""

import os
import subprocess
import sys
from importlib import metadata

from markdown_blocks import ROOT, blocks
from packaging.requirements import Requirement

PRELUDE = """
import sys
from importlib.machinery import PathFinder

ALLOWED = {allowed!r}


class OnlyTorch(PathFinder):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        package = name.partition(".")[0]
        standard = package in sys.stdlib_module_names or package.startswith("_sysconfigdata")
        if standard or package in ALLOWED:
            return super().find_spec(name, path, target)
        return None


sys.meta_path = [OnlyTorch if finder is PathFinder else finder for finder in sys.meta_path]
"""
"""Hides every package that torch does not require."""


def distributions_of_torch() -> set[str]:
    """Names of the distributions that ``pip install torch`` installs, without extras."""
    pending, found = ["torch"], set[str]()
    while pending:
        name = pending.pop()
        if name in found:
            continue
        try:
            requirements = metadata.requires(name) or []
        except metadata.PackageNotFoundError:
            continue  # not needed on this platform
        found.add(name)
        pending += [
            requirement.name.lower().replace("_", "-")
            for requirement in map(Requirement, requirements)
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""})
        ]
    return found


def run(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run code in a process that can import torch and its dependencies only."""
    needed = {name.lower() for name in distributions_of_torch()}
    allowed = {
        package
        for package, names in metadata.packages_distributions().items()
        if any(name.lower().replace("_", "-") in needed for name in names)
    }
    prelude = PRELUDE.format(allowed=sorted(allowed | {"ccloss"}))
    return subprocess.run(
        [sys.executable, "-c", prelude + code, *arguments],
        capture_output=True,
        text=True,
        check=False,
        # torch itself warns when it is imported without NumPy.
        env={**os.environ, "PYTHONWARNINGS": "ignore"},
    )


def test_other_packages_are_hidden() -> None:
    done = run("import timm")
    assert done.returncode == 1
    assert "No module named 'timm'" in done.stderr


def test_training_loop_of_the_readme_needs_torch_alone() -> None:
    loop = blocks(ROOT / "README.md", "python")[0]
    done = run(loop.code + "\nprint(value.isfinite().item(), 'timm' in sys.modules)")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "True False"


def test_command_without_its_packages_prints_one_line() -> None:
    done = run("from ccloss.cli import main\nsys.exit(main(['losses']))")
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert 'pip install "ccloss[bench]"' in line


def test_import_of_the_library_loads_torch_alone() -> None:
    others = {"torchvision", "timm", "pydantic", "sklearn"}
    names = "for name in ccloss.__all__: getattr(ccloss, name)"
    code = f"import sys, ccloss\n{names}\nprint({others!r} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
