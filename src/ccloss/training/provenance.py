"""Where a number comes from: code, software, machine and numerical settings."""

import contextlib
import functools
import os
import platform
import re
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = ("ccloss", "torch", "torchvision", "timm", "accelerate", "numpy")


def provenance(device: str) -> dict[str, Any]:
    """Commit, versions, machine and numerical settings of this process.

    Args:
        device: name of the device of the run.
    """
    return {
        "device": device,
        "processor": _processor(),
        "cores": os.cpu_count(),
        "system": platform.system(),
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in PACKAGES},
        "commit": _commit(Path(__file__).parents[1]),
        "world_size": int(os.environ.get("WORLD_SIZE", "1")),
        **_numerics(),
    }


def _numerics() -> dict[str, Any]:
    """Threads, CUDA, and flags that change results."""
    import torch

    return {
        "threads": torch.get_num_threads(),
        "cuda": torch.version.cuda,
        "driver": _driver(),
        "tf32": {
            "matmul": torch.backends.cuda.matmul.allow_tf32,
            "cudnn": torch.backends.cudnn.allow_tf32,
        },
        "deterministic": {
            "algorithms": torch.are_deterministic_algorithms_enabled(),
            "cudnn": torch.backends.cudnn.deterministic,
            "cudnn_benchmark": torch.backends.cudnn.benchmark,
        },
    }


def _driver() -> str | None:
    """Version of the NVIDIA driver on Linux."""
    with contextlib.suppress(OSError):
        found = re.search(r"\d+\.\d[\d.]*", Path("/proc/driver/nvidia/version").read_text())
        return found and found.group()
    return None


def _processor() -> str:
    """The processor's name where the system has it, else its architecture."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.machine()


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


@functools.cache
def _commit(package: Path) -> str | None:
    """The commit of the package's own checkout, marked if files differ from it.

    A package that is installed within another repository has none: its files are not tracked
    there, or not at ``src/ccloss``.
    """
    root = _git(package, "rev-parse", "--show-toplevel")
    if root is None or Path(root).resolve() / "src" / "ccloss" != package.resolve():
        return None
    if _git(package, "ls-files", "--error-unmatch", "__init__.py") is None:
        return None
    return _git(package, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")


def _git(folder: Path, *arguments: str) -> str | None:
    command = ["git", "-C", str(folder), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return (done.stdout.strip() or None) if done.returncode == 0 else None
