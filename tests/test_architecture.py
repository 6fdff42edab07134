"""Imports go one way: read from the source, not from what happens to run."""

import ast
import graphlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import ccloss

SOURCE = Path(ccloss.__file__).parent

CORE = {"functional", "options", "output", "errors"}
PARTS = {"losses", "models", "data", "experiment", "checkpoint", "metrics", "records", "stats"}
PARTS |= {"paper"}

ALLOWED: dict[str, set[str]] = {
    "errors": set(),
    "output": set(),
    "options": {"errors"},
    "kernels": set(),
    "passes": {"kernels"},
    "functional": {"errors", "options", "passes", "kernels"},
    **dict.fromkeys(PARTS, CORE),
    "experiment": {"errors"},
    "paper": {"errors", "experiment"},  # its tables are experiments
    "checkpoint": CORE | {"records"},
    "training": CORE | PARTS,
    "inference": CORE | PARTS | {"training"},
    "campaign": CORE | PARTS | {"training"},
    "report": CORE | PARTS,  # it reads records, and never trains
    "screen": CORE | PARTS | {"training", "campaign"},
    "cli": CORE | PARTS | {"training", "inference", "campaign", "report", "screen", "__init__"},
    "__main__": {"cli"},
}
"""Room -> rooms it may import."""


def modules() -> dict[str, ast.Module]:
    """Every module by its path below the package, without suffix: ``losses/loss``."""
    return {
        path.relative_to(SOURCE).with_suffix("").as_posix(): ast.parse(path.read_text())
        for path in sorted(SOURCE.rglob("*.py"))
    }


def room_of(module: str) -> str:
    return module.split("/")[0]


def imported(tree: ast.AST, known: set[str]) -> Iterator[str]:
    """Modules of the package that a piece of source imports, wherever in it."""
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports hide where they go"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            first, *rest = name.split(".")
            if first == "ccloss":
                # The longest part that is a module; the rest is a name in it.
                while rest and "/".join(rest) not in known:
                    if "/".join([*rest, "__init__"]) in known:
                        rest.append("__init__")
                        break
                    rest.pop()
                yield "/".join(rest) or "__init__"


def forbidden(module: str, tree: ast.AST, known: set[str]) -> list[str]:
    room = room_of(module)
    targets = {room_of(target) for target in imported(tree, known)} - {room}
    return sorted(f"{module} -> {target}" for target in targets - ALLOWED[room])


def test_every_module_belongs_to_a_room() -> None:
    assert {room_of(module) for module in modules()} - {"__init__"} <= set(ALLOWED)


def test_imports_only_go_one_way() -> None:
    trees = modules()
    known = set(trees)
    found = [
        edge
        for module, tree in trees.items()
        if module != "__init__"
        for edge in forbidden(module, tree, known)
    ]
    assert found == []


@pytest.mark.parametrize(
    ("module", "source", "edges"),
    [
        ("losses/loss", "from ccloss.training import train", ["losses/loss -> training"]),
        ("losses/loss", "from ccloss import models", ["losses/loss -> models"]),
        ("losses/loss", "import ccloss.models.heads", ["losses/loss -> models"]),
        ("losses/loss", "def f():\n    from ccloss import Output", ["losses/loss -> __init__"]),
        ("losses/loss", "from ccloss import functional\nimport torch", []),
        ("losses/loss", "from ccloss.losses.cross_entropy import cross_entropy", []),
        ("report/tables", "from ccloss.training import train", ["report/tables -> training"]),
    ],
)
def test_a_forbidden_import_is_seen(module: str, source: str, edges: list[str]) -> None:
    assert forbidden(module, ast.parse(source), set(modules())) == edges


def test_allowed_imports_make_no_circle() -> None:
    assert list(graphlib.TopologicalSorter(ALLOWED).static_order())


def test_modules_make_no_circle() -> None:
    trees = modules()
    graph = {
        module: set(imported(tree, set(trees))) - {module, "__init__"}
        for module, tree in trees.items()
        if module != "__init__"
    }
    assert list(graphlib.TopologicalSorter(graph).static_order())


@pytest.mark.parametrize("name", ["utils", "util", "helpers", "common", "misc"])
def test_there_is_no_room_for_everything(name: str) -> None:
    assert [module for module in modules() if name in module.split("/")] == []


def test_package_imports_its_names_late() -> None:
    tree = modules()["__init__"]
    at_import = [
        node
        for node in tree.body
        if isinstance(node, ast.Import | ast.ImportFrom)
        and any(True for _ in imported(node, set(modules())))
    ]
    assert at_import == []


@pytest.mark.parametrize("module", ["ccloss", "ccloss.cli", "ccloss.experiment", "ccloss.errors"])
def test_import_loads_no_torch(module: str) -> None:
    code = f"import sys, {module}; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


IMPORT_ALL = """
import importlib, os, sys
import numpy, torch
before = dict(os.environ), torch.get_rng_state(), numpy.random.get_state()[1].copy()
for name in sys.argv[1:]:
    importlib.import_module(name)
assert dict(os.environ) == before[0], "environment"
assert torch.equal(torch.get_rng_state(), before[1]), "random state of torch"
assert (numpy.random.get_state()[1] == before[2]).all(), "random state of numpy"
assert torch.get_default_dtype() == torch.float32, "default type"
assert not torch.distributed.is_initialized(), "process group"
"""


def test_imports_have_no_side_effects(tmp_path: Path) -> None:
    names = [
        ".".join(["ccloss", *module.split("/")]).removesuffix(".__init__")
        for module in modules()
        if module != "__main__"
    ]
    done = subprocess.run(
        [sys.executable, "-c", IMPORT_ALL, *names],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert list(tmp_path.iterdir()) == []
