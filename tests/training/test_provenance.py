"""Where a number comes from."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import ccloss
from ccloss.training import provenance as module
from ccloss.training.provenance import provenance


def test_provenance_holds_versions_and_numerical_settings() -> None:
    found = provenance("cpu")
    assert (found["device"], found["world_size"]) == ("cpu", 1)
    assert found["python"].startswith(f"{sys.version_info.major}.")
    assert {"ccloss", "torch", "timm"} <= set(found["versions"])
    assert found["threads"] == torch.get_num_threads()
    assert found["cuda"] == torch.version.cuda
    assert found["tf32"] == {
        "matmul": torch.backends.cuda.matmul.allow_tf32,
        "cudnn": torch.backends.cudnn.allow_tf32,
    }
    assert found["deterministic"]["algorithms"] is False
    assert json.loads(json.dumps(found)) == found


def git(folder: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=n", "-c", "user.email=n@localhost")
    command = ["git", "-C", str(folder), *identity, *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def test_commit_is_that_of_the_package_s_own_checkout(tmp_path: Path) -> None:
    package = tmp_path / "src" / "ccloss"
    package.mkdir(parents=True)
    git(tmp_path, "init", "--quiet")
    (package / "__init__.py").touch()
    (tmp_path / "other").touch()
    git(tmp_path, "add", "other")
    git(tmp_path, "commit", "--quiet", "-m", "Without the package")
    assert module._commit.__wrapped__(package) is None
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "-m", "With the package")
    commit = git(tmp_path, "rev-parse", "HEAD")
    assert module._commit.__wrapped__(package) == commit
    (package / "__init__.py").write_text("changed = True\n")
    assert module._commit.__wrapped__(package) == f"{commit}-dirty"


def test_package_installed_within_another_repository_has_no_commit(tmp_path: Path) -> None:
    package = tmp_path / "venv" / "site-packages" / "ccloss"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "-m", "Another project")
    assert module._commit.__wrapped__(package) is None


def test_without_git_there_is_no_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object, **__: object) -> None:
        raise FileNotFoundError

    monkeypatch.setattr(subprocess, "run", missing)
    assert module._commit.__wrapped__(Path(ccloss.__file__).parent) is None
