"""Imports between packages point in one direction. The test reads the source files."""

import ast
import functools
import graphlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import ccloss

SOURCE = Path(ccloss.__file__).parent

CORE = {"errors", "validation", "output", "tensor_checks", "functional"}
LIBRARY = CORE | {"losses", "models"}

ALLOWED: dict[str, set[str]] = {
    "errors": set(),
    "validation": {"errors"},
    "output": set(),
    "tensor_checks": {"errors"},
    "cpu_terms": set(),
    "functional": {"errors", "validation", "tensor_checks", "cpu_terms"},
    "losses": CORE,
    "models": CORE,
    "data": LIBRARY,
    "training": LIBRARY | {"data"},
    "bench": LIBRARY | {"data", "training"},
    "inference": LIBRARY | {"data", "training"},
    "cli": LIBRARY | {"data", "training", "bench", "inference", "__init__"},
    "__main__": {"cli"},
}
"""Package -> packages that it may import."""


@functools.cache
def modules() -> dict[str, ast.Module]:
    """Every module by its path below the package, without suffix: ``losses/base``."""
    return {
        path.relative_to(SOURCE).with_suffix("").as_posix(): ast.parse(path.read_text())
        for path in sorted(SOURCE.rglob("*.py"))
    }


def package_of(module: str) -> str:
    return module.split("/")[0]


def imported(tree: ast.AST, known: set[str]) -> Iterator[str]:
    """Modules of ccloss that a source file imports, at any depth."""
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports are not used"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            first, *rest = name.split(".")
            if first == "ccloss":
                # The longest prefix that is a module; what follows is a name in it.
                while rest and "/".join(rest) not in known:
                    if "/".join([*rest, "__init__"]) in known:
                        rest.append("__init__")
                        break
                    rest.pop()
                yield "/".join(rest) or "__init__"


def forbidden(module: str, tree: ast.AST, known: set[str]) -> list[str]:
    package = package_of(module)
    targets = {package_of(target) for target in imported(tree, known)} - {package}
    return sorted(f"{module} -> {target}" for target in targets - ALLOWED[package])


def test_every_module_belongs_to_a_known_package() -> None:
    assert {package_of(module) for module in modules()} - {"__init__"} <= set(ALLOWED)


def test_imports_follow_the_layers() -> None:
    trees = modules()
    found = [
        edge
        for module, tree in trees.items()
        if module != "__init__"
        for edge in forbidden(module, tree, set(trees))
    ]
    assert found == []


@pytest.mark.parametrize(
    ("module", "source", "edges"),
    [
        ("losses/base", "from ccloss.training.loop import train", ["losses/base -> training"]),
        ("losses/base", "from ccloss import models", ["losses/base -> models"]),
        ("losses/base", "import ccloss.models.heads", ["losses/base -> models"]),
        ("losses/base", "def f():\n    from ccloss import Output", ["losses/base -> __init__"]),
        ("losses/base", "from ccloss import functional\nimport torch", []),
        ("losses/base", "from ccloss.losses.cross_entropy import cross_entropy", []),
        (
            "training/loop",
            "from ccloss.bench.paper.tables import TABLES",
            ["training/loop -> bench"],
        ),
    ],
)
def test_a_forbidden_import_is_found(module: str, source: str, edges: list[str]) -> None:
    assert forbidden(module, ast.parse(source), set(modules())) == edges


def test_allowed_imports_have_no_cycle() -> None:
    assert list(graphlib.TopologicalSorter(ALLOWED).static_order())


def test_modules_have_no_import_cycle() -> None:
    trees = modules()
    graph = {
        module: set(imported(tree, set(trees))) - {module, "__init__"}
        for module, tree in trees.items()
        if module != "__init__"
    }
    assert list(graphlib.TopologicalSorter(graph).static_order())


@pytest.mark.parametrize("name", ["utils", "util", "helpers", "common", "misc"])
def test_no_module_has_a_name_without_meaning(name: str) -> None:
    assert [module for module in modules() if name in module.split("/")] == []


def test_package_imports_its_names_lazily() -> None:
    tree = modules()["__init__"]
    at_import = [
        node
        for node in tree.body
        if isinstance(node, ast.Import | ast.ImportFrom)
        and any(True for _ in imported(node, set(modules())))
    ]
    assert at_import == []


@pytest.mark.parametrize("module", ["ccloss", "ccloss.cli", "ccloss.errors"])
def test_import_does_not_load_torch(module: str) -> None:
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
