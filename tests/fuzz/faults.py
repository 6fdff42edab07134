"""Kills and full disks at every file operation of the command.

    python tests/fuzz/faults.py

A first run of each scenario counts its file operations: opening for writing, renaming, removing,
creating a folder, syncing. Then, for each operation, a copy of the scenario is

* killed: the whole process group dies just before the operation;
* crashed (``--jobs 2`` only): the process that reaches the operation dies, the others do not;
* failed: the operation fails once with "no space left on device";
* filled: the disk is full from this operation on.

A command that does not succeed is repeated. The results must equal those of the first run bit for
bit. The last line counts the results; the exit code is 1 unless all of them are identical.
"""

import argparse
import contextlib
import errno
import io
import multiprocessing
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from matplotlib.figure import Figure

from ccloss.cli import main as ccloss
from ccloss.training.records import RunFolder, find_runs

CASE_SECONDS = 600.0
"""A command that takes longer hangs; on a machine with other work it can take a minute."""

DEFECT = 70
"""Exit code of a child whose command raised an exception."""

SMALL = ["--data", "digits", "--epochs", "2", "--train-limit", "40", "--test-limit", "20"]
SMALL += ["--hidden-features", "8", "--batch-size", "16"]
TRAIN = ["train", *SMALL, "--loss", "cc", "--out", "out"]
COMPARE = ["compare", *SMALL, "--losses", "ce,cc", "--rounds", "1", "--out", "out", "--jobs", "2"]


@dataclass(frozen=True)
class Scenario:
    """A command, what its folder holds before, and how it is repeated after a fault."""

    name: str
    command: list[str]
    prepared: str = ""
    again: tuple[str, ...] = ()
    faults: tuple[str, ...] = ("kill", "fail", "fill")


SCENARIOS = [
    Scenario("train", TRAIN, again=("--resume",)),
    Scenario("resume", [*TRAIN, "--resume"], prepared="unfinished"),
    Scenario("overwrite", [*TRAIN, "--overwrite"], prepared="other seed"),
    Scenario("compare --jobs 2", COMPARE, faults=("kill", "crash", "fail", "fill")),
    Scenario("report", ["report", "out", "--figures"], prepared="finished"),
]


# ---- in the child --------------------------------------------------------------------------------


class FileOperations:
    """Counts the file operations below a folder and causes a fault at one of them.

    Args:
        folder: whose operations are counted.
        fault: what happens at the operation ``number``: kill, crash, fail or fill.
        number: of the operation, from 1; 0 counts only.
        count: shared by all processes of the command.
        log: descriptor that receives the operation at which the fault happens.
    """

    def __init__(self, folder: Path, fault: str, number: int, count: Any, log: int) -> None:
        self.folder = f"{folder}/"
        self.fault, self.number, self.count, self.log = fault, number, count, log

    def install(self) -> None:
        sys.addaudithook(self._audit)
        fsync = os.fsync

        def audited_fsync(descriptor: int) -> None:
            self._operation("sync", os.readlink(f"/proc/self/fd/{descriptor}"))
            fsync(descriptor)

        os.fsync = audited_fsync

    def _audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = arguments
            if flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
                self._operation("open", path)
        elif event in ("os.rename", "os.mkdir"):
            self._operation(event, arguments[0])
        elif event in ("os.remove", "os.rmdir"):
            path, descriptor = arguments
            if descriptor != -1:
                path = os.path.join(os.readlink(f"/proc/self/fd/{descriptor}"), os.fspath(path))
            self._operation(event, path)

    def _operation(self, name: str, path: Any) -> None:
        if isinstance(path, int):
            return
        path = os.path.abspath(os.fsdecode(path))
        if not f"{path}/".startswith(self.folder):
            return
        with self.count.get_lock():
            self.count.value += 1
            reached, passed = (
                self.count.value == self.number,
                self.count.value > self.number > 0,
            )
        if reached:
            os.write(self.log, f"{name} {path.removeprefix(self.folder)}".encode())
            if self.fault == "kill":
                os.killpg(0, signal.SIGKILL)
            if self.fault == "crash":
                os.kill(os.getpid(), signal.SIGKILL)
        needs_space = name in ("open", "sync", "os.mkdir", "os.rename")
        if self.fault == "fill" and (reached or passed):
            resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
        if (self.fault == "fail" and reached) or (
            self.fault == "fill" and (reached or passed) and needs_space
        ):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)


def _child(command: list[str], operations: FileOperations, folder: Path, output: Path) -> int:
    os.setsid()
    descriptor = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    reader, writer = os.pipe()  # a full disk must not stop the messages
    if os.fork() == 0:
        os.setsid()  # a kill of the command does not reach the reader of its messages
        os.close(writer)
        while content := os.read(reader, 65536):
            os.write(descriptor, content)
        os._exit(0)
    os.dup2(writer, 1)
    os.dup2(writer, 2)
    os.close(writer)
    os.close(reader)
    sys.stdout = os.fdopen(1, "w", encoding="utf-8")
    sys.stderr = os.fdopen(2, "w", encoding="utf-8")
    os.chdir(folder)
    operations.install()
    try:
        return ccloss(command)
    except BaseException:
        traceback.print_exc()
        return DEFECT
    finally:
        with contextlib.suppress(OSError):
            sys.stdout.flush()
            sys.stderr.flush()


# ---- in the parent -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Ended:
    """How a command ended.

    Attributes:
        code: its exit code, negative for a signal.
        text: what it printed.
        count: number of its file operations.
        fault: the operation at which the fault happened, if it was reached.
        hung: whether it was ended after :data:`CASE_SECONDS`.
    """

    code: int
    text: str
    count: int
    fault: str
    hung: bool


def execute(command: list[str], folder: Path, fault: str = "", number: int = 0) -> Ended:
    """Runs the command in a forked process, with a fault at one of its operations."""
    count = multiprocessing.Value("i", 0)
    reader, writer = os.pipe()
    output = folder.parent / "output.txt"
    output.unlink(missing_ok=True)
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        code = DEFECT
        try:
            operations = FileOperations(folder, fault, number, count, writer)
            code = _child(command, operations, folder, output)
        finally:
            os._exit(code)
    os.close(writer)
    deadline, hung = time.monotonic() + CASE_SECONDS, False
    while True:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            break
        if time.monotonic() > deadline:
            hung = True
            os.killpg(child, signal.SIGKILL)
        time.sleep(0.01)
    log = b""
    while content := os.read(reader, 65536):  # until every process of the command has ended
        log += content
    os.close(reader)
    text = output.read_text(errors="replace") if output.exists() else ""
    code = os.waitstatus_to_exitcode(status)
    return Ended(code, text, int(count.value), log.decode(errors="replace"), hung)


def results(folder: Path) -> dict[str, Any]:
    """What must not depend on faults: results of runs, and files of a report."""
    found: dict[str, Any] = {}
    for run in find_runs(folder):
        name = str(run.path.relative_to(folder))
        record = run.read_record() if run.finished else None
        found[name] = (
            record and record.evaluation,
            record and run.model.read_bytes(),
            record and run.test_sample.read_bytes(),
            [(line["epoch"], line["terms"], line["evaluation"]) for line in run.read_metrics()],
        )
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.name.startswith(".") and path.name != ".lock":
            found[name] = "left by a write"
        elif path.is_file() and "tensorboard" not in path.parts and path.name != ".lock":
            found[f"{name} exists"] = path.stat().st_size > 0
    return found


def prepare(kind: str, folder: Path) -> None:
    """Writes what the scenario's folder holds before the command."""
    folder.mkdir()
    if not kind:
        return
    done = execute([*TRAIN, *(["--seed", "1"] if kind == "other seed" else [])], folder)
    assert done.code == 0, done.text
    if kind == "unfinished":
        run = RunFolder(folder / "out")
        for path in (run.record, run.model, run.test_sample):
            path.unlink()
        (run.checkpoints / "epoch-0002.safetensors").unlink()


@contextlib.contextmanager
def _forked_workers() -> Iterator[None]:
    """Forks the workers of a campaign, so that they count their operations as well."""
    forked = multiprocessing.get_context("fork")
    with mock.patch.object(multiprocessing, "get_context", return_value=forked):
        yield


@contextlib.contextmanager
def _blank_figures() -> Iterator[None]:
    """Saves blank figures: drawing takes most of the time and has no file operations."""
    blank = {}
    for kind in ("png", "svg"):
        content = io.BytesIO()
        Figure((1, 1)).savefig(content, format=kind)
        blank[kind] = content.getvalue()

    def savefig(_: Figure, file: io.BytesIO, **options: Any) -> None:
        file.write(blank[options["format"]])

    with mock.patch.object(Figure, "savefig", savefig):
        yield


def check(scenario: Scenario, workspace: Path, every: int, counts: Counter[str]) -> None:
    """Runs a scenario with each fault at each operation (or at every n-th)."""
    prepared, first = workspace / "prepared", workspace / "first"
    prepare(scenario.prepared, prepared)
    shutil.copytree(prepared, first)
    undisturbed = execute(scenario.command, first)
    assert undisturbed.code == 0, undisturbed.text
    expected = results(first)
    print(f"{scenario.name}: {undisturbed.count} file operations", flush=True)
    for fault in scenario.faults:
        for number in range(1, undisturbed.count + 1, every):
            folder = workspace / "case"
            shutil.copytree(prepared, folder)
            problem = _problem(scenario, folder, fault, number, expected)
            counts[f"{scenario.name}: {fault}"] += 1
            counts[problem[0] if problem else "identical"] += 1
            if problem:
                print(f"{problem[0]}: {scenario.name}, {fault} at operation {number}", flush=True)
                print("    " + problem[1].strip().replace("\n", "\n    "), flush=True)
            shutil.rmtree(folder)
        print(f"    {fault}: {counts[f'{scenario.name}: {fault}']} cases", flush=True)


def _age(folder: Path) -> None:
    """Makes the temporary files an hour older, as if the command were repeated later."""
    for path in folder.rglob(".*"):
        if path.is_file():
            os.utime(path, (time.time() - 3600,) * 2)


def _problem(
    scenario: Scenario, folder: Path, fault: str, number: int, expected: dict[str, Any]
) -> tuple[str, str] | None:
    ended = execute(scenario.command, folder, fault, number)
    where = f"at {ended.fault or 'no operation'}"
    if ended.hung:
        return "hang", where
    if "Traceback" in ended.text or ended.code == DEFECT:
        return "traceback", f"{where}: {ended.text[-1500:]}"
    errors = [line for line in ended.text.splitlines() if line.startswith("error: ")]
    if ended.code >= 0 and (ended.code == 2) != (len(errors) == 1):
        return "difference", f"{where}: exit code {ended.code} with the errors {errors}"
    if ended.code != 0:
        command = [*scenario.command, *scenario.again]
        run = RunFolder(folder / "out")
        if scenario.command[0] != "train" or not run.finished or "--overwrite" in command:
            _age(folder)
            again = execute(command, folder)
            if again.hung:
                return "hang", f"{where}, when the command is repeated"
            if again.code != 0 or "Traceback" in again.text:
                return "difference", f"{where}: the command fails again: {again.text[-1500:]}"
    try:
        found = results(folder)
    except Exception as error:
        return "difference", f"{where}, exit code {ended.code}: {type(error).__name__}: {error}"
    names = [name for name in expected.keys() | found if expected.get(name) != found.get(name)]
    if names:
        return "difference", f"{where}, exit code {ended.code}: {sorted(names)[:5]}"
    return None


def main(command_line: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--every", type=int, default=1, help="test every n-th operation only")
    parser.add_argument("--only", default="", help="names of scenarios, separated by commas")
    arguments = parser.parse_args(command_line)
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    only = arguments.only.split(",") if arguments.only else [each.name for each in SCENARIOS]
    chosen = [each for each in SCENARIOS if each.name in only]
    counts: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder, _forked_workers(), _blank_figures():
        _preload(Path(folder))
        for index, scenario in enumerate(chosen):
            workspace = Path(folder).resolve() / str(index)
            workspace.mkdir()
            check(scenario, workspace, arguments.every, counts)
    problems = ("traceback", "hang", "difference")
    cases = [f"{number} {name}" for name, number in counts.items() if ":" in name]
    print("; ".join(cases))
    total = sum(counts[name] for name in ("identical", *problems))
    print(
        f"{total} faults: {counts['identical']} bit-identical, "
        + ", ".join(f"{counts[name]} {name}s" for name in problems)
    )
    return 1 if any(counts[name] for name in problems) else 0


def _preload(folder: Path) -> None:
    """Imports what the commands import, which takes seconds and would happen in every child."""
    os.chdir(folder)
    assert ccloss([*TRAIN]) == 0
    assert ccloss(["report", "out", "--figures"]) == 0
    os.chdir("/")


if __name__ == "__main__":
    sys.exit(main())
