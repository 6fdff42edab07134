"""Options that several subcommands share."""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from ccloss.bench.experiment import Experiment

DataRoot = Annotated[Path | None, Parameter(env_var="CCLOSS_DATA")]

ConfigFile = Path | None
"""File whose fields are the options that the command line does not give; read by
:func:`ccloss.cli.config_file.use_files`."""

ExperimentFields = Annotated[Experiment, Parameter(name="*")]
"""Every field of an experiment as an option of its own."""


@Parameter(name="*")
@dataclass(frozen=True)
class Resources:
    """Where runs are executed, and where their data are."""

    data_root: DataRoot = None
    """Folder with the data. Without it they are downloaded from the Hugging Face Hub."""

    jobs: int = 1
    """Number of parallel runs on this machine. They share its GPUs."""

    rounds_per_device: int | None = None
    """Number of parallel runs per GPU, or on the CPU if there is no GPU. Replaces --jobs. On one
    GPU, the runs share a process and their steps alternate."""

    threads_per_run: int | None = None
    """Threads of PyTorch per run. On CPUs the default is 1: the number of threads changes results
    slightly, so it is fixed and recorded. Parallel runs (--jobs) use the other cores."""

    ray: str | None = None
    """Address of a Ray cluster, or auto. Its machines must share the folder --out."""

    cpus_per_run: float = 1
    """CPU cores per run on the cluster."""

    gpus_per_run: float = 0
    """GPUs per run on the cluster. Below 1, several runs share a GPU."""

    workers: int | None = None
    """Processes per run that decode large images. By default as many as the cores allow."""


def option_names() -> dict[str, str]:
    """Names of arguments and fields, and the options that set them."""
    names = [field.name for kind in (Experiment, Resources) for field in dataclasses.fields(kind)]
    return {name: f"--{name.replace('_', '-')}" for name in [*names, "rounds", "losses"]}
