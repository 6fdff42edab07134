"""Where runs are executed: in this process, in worker processes, or on a Ray cluster.

An executor takes a job and returns a future. Errors inside a run are part of the job's result. A
future has an exception only if its process died.
"""

import contextlib
import multiprocessing
import os
import socket
import threading
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import BrokenExecutor, Future, ProcessPoolExecutor
from multiprocessing.synchronize import Event
from queue import SimpleQueue
from typing import Any, Protocol, Self, TypeVar

import torch

from ccloss.errors import InputError, import_package
from ccloss.training.devices import fp32_without_tf32

T = TypeVar("T")

_CONNECTION_TIMEOUT = 5.0
"""Seconds in which the head node of a cluster must accept a connection."""

_POLL_SECONDS = 0.5
"""Interval at which a worker process checks whether the campaign still exists."""


class Executor(Protocol):
    """Executes up to ``slots`` jobs at a time."""

    @property
    def slots(self) -> int: ...

    def submit(self, job: Callable[[Any], Any], argument: Any) -> "Future[Any]": ...


class SerialExecutor:
    """Executes jobs in this process, one after the other.

    Args:
        threads: threads of PyTorch during a job; by default those of this process.
    """

    slots = 1

    def __init__(self, threads: int | None = None) -> None:
        self.threads = threads

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None: ...

    def submit(self, job: Callable[[Any], T], argument: Any) -> "Future[T]":
        future: Future[T] = Future()
        with thread_limit(self.threads):
            future.set_result(job(argument))
        return future


class InterleavingExecutor:
    """Executes several runs in this process: one step of each in turn.

    A job is a generator function. Its generator yields where the next job may continue: after a
    step that has been started on the GPU. Jobs that run at the same time have different CUDA
    streams, so the GPU executes their steps at the same time. What a job does between two yields
    is not interrupted, so jobs may use global state such as random generators.

    Args:
        slots: number of runs at a time.
    """

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self._submitted: SimpleQueue[_Job | None] = SimpleQueue()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._submitted.put(None)
        self._thread.join()

    def submit(self, job: Callable[[Any], Generator[None, None, T]], argument: Any) -> "Future[T]":
        future: Future[T] = Future()
        self._submitted.put(_Job(job(argument), future))
        return future

    def _work(self) -> None:
        # Runs start and end in any order, so none of them may restore this setting of the process.
        with fp32_without_tf32("fp32"):
            free: list[torch.cuda.Stream] = []
            jobs: list[_Job] = []
            while not self._stop.is_set():
                while not jobs or not self._submitted.empty():
                    job = self._submitted.get()
                    if job is None:
                        break
                    if torch.cuda.is_available():
                        job.stream = free.pop() if free else torch.cuda.Stream()
                    jobs.append(job)
                ended = [job for job in jobs if not job.step()]
                free += [job.stream for job in ended if job.stream]
                jobs = [job for job in jobs if job not in ended]
            for job in jobs:
                job.steps.close()


class _Job:
    """A generator, its CUDA stream, and the future of its result."""

    def __init__(self, steps: Generator[None, None, Any], future: "Future[Any]") -> None:
        self.steps = steps
        self.stream: torch.cuda.Stream | None = None
        self._future = future

    def step(self) -> bool:
        """Continues to the next yield. Returns whether there is more to do."""
        try:
            with torch.cuda.stream(self.stream):
                next(self.steps)
        except StopIteration as end:
            self._future.set_result(end.value)
        except BaseException as error:
            self._future.set_exception(error)
        else:
            return True
        return False


class ProcessExecutor:
    """Executes jobs in processes of this machine, which share its GPUs.

    If one process dies, the standard library ends all processes of the pool. The next job starts a
    new pool. Leaving the context waits for running jobs, or ends them if there is an exception.

    Args:
        slots: number of processes.
        threads: threads of PyTorch in each process; by default an equal share of this process's.

    Raises:
        InputError: ``slots`` is below 1, or a launcher has started several processes.
    """

    def __init__(self, slots: int, threads: int | None = None) -> None:
        if slots < 1:
            raise InputError(f"slots must be 1 or more, got {slots}")
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            raise InputError(
                "parallel runs (--jobs, --ray) cannot be combined with a launcher that starts "
                "several processes for one run; use one of them"
            )
        self.slots = slots
        self._threads = threads or max(1, torch.get_num_threads() // slots)
        self._devices = visible_devices()
        self._context = multiprocessing.get_context("spawn")
        self._stop = self._context.Event()
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if error is not None:
            self._stop.set()
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)

    def submit(self, job: Callable[[Any], T], argument: Any) -> "Future[T]":
        try:
            return self._running_pool().submit(job, argument)
        except BrokenExecutor:
            self._pool = None
            return self._running_pool().submit(job, argument)

    def _running_pool(self) -> ProcessPoolExecutor:
        if self._pool is None:
            started = self._context.Value("i", 0)
            self._pool = ProcessPoolExecutor(
                self.slots,
                mp_context=self._context,
                initializer=_start_worker,
                initargs=(self._stop, os.getpid(), self._threads, self._devices, started),
            )
        return self._pool


class RayExecutor:
    """Executes jobs on the machines of a Ray cluster that share a file system.

    Args:
        address: address of the head node: ``auto``, ``10.0.0.1:6379`` or
            ``ray://10.0.0.1:10001``.
        cpus: CPU cores per run.
        gpus: GPUs per run; below 1, several runs share a GPU.
        threads: threads of PyTorch per run; by default as Ray sets them.

    Raises:
        InputError: Ray is not installed, there is no such cluster, or it is too small for a run.
    """

    def __init__(
        self, address: str, cpus: float = 1, gpus: float = 0, threads: int | None = None
    ) -> None:
        ray = import_package("ray", "--ray", "ray")
        _require_listener(address)
        try:
            # The campaign retries runs itself: only it knows which runs another one has locked.
            remote = ray.remote(num_cpus=cpus, num_gpus=gpus, max_retries=0)(_call)
            ray.init(address=address, log_to_driver=False, logging_level="ERROR")
        except (ConnectionError, ValueError, RuntimeError) as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise InputError(
                f"no Ray cluster can be used at {address!r} with {cpus:g} CPUs and {gpus:g} GPUs "
                f"per run ({reason}); start one with `ray start --head`, or give its address"
            ) from None
        self._remote = remote
        self._threads = threads
        self.slots = _slots(ray.cluster_resources(), cpus, gpus)
        if self.slots == 0:
            ray.shutdown()
            raise InputError(
                f"the cluster at {address} has no machine for a run with {cpus:g} CPUs and "
                f"{gpus:g} GPUs; request fewer"
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        import_package("ray", "--ray", "ray").shutdown()  # ends jobs that are still running

    def submit(self, job: Callable[[Any], T], argument: Any) -> "Future[T]":
        future: Future[T] = self._remote.remote(job, argument, self._threads).future()
        return future


@contextlib.contextmanager
def thread_limit(threads: int | None) -> Iterator[None]:
    """Sets the number of threads of PyTorch inside the block; ``None`` changes nothing."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def visible_devices() -> list[str]:
    """The GPUs that PyTorch can use, by the names in CUDA_VISIBLE_DEVICES if it is set."""
    count = torch.cuda.device_count()
    named = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    return (named.split(",") if named else [str(number) for number in range(count)])[:count]


def default_threads() -> int | None:
    """One thread per run on CPUs, where the number of threads changes results; free on GPUs."""
    return None if visible_devices() else 1


def _call(job: Callable[[Any], T], argument: Any, threads: int | None) -> T:
    with thread_limit(threads):
        return job(argument)


def _start_worker(stop: Event, parent: int, threads: int, devices: list[str], started: Any) -> None:
    torch.set_num_threads(threads)
    if devices:
        with started.get_lock():
            os.environ["CUDA_VISIBLE_DEVICES"] = devices[started.value % len(devices)]
            started.value += 1
    threading.Thread(target=_exit_without_campaign, args=(stop, parent), daemon=True).start()


def _exit_without_campaign(stop: Event, parent: int) -> None:
    """Ends this process when its campaign is stopped or killed: a run can take hours."""
    while not stop.wait(_POLL_SECONDS) and os.getppid() == parent:
        pass
    os._exit(1)


def _require_listener(address: str) -> None:
    """Raises :class:`InputError` if nothing listens at an address; Ray would wait for minutes."""
    host, colon, port = address.rpartition("://")[2].rpartition(":")
    if not colon:  # a name such as auto
        return
    try:
        socket.create_connection((host, int(port)), timeout=_CONNECTION_TIMEOUT).close()
    except (OSError, ValueError, OverflowError) as error:
        raise InputError(
            f"no Ray cluster answers at {address!r} ({error}); start one with "
            "`ray start --head`, or give its address"
        ) from None


def _slots(resources: dict[str, float], cpus: float, gpus: float) -> int:
    """Number of runs that fit the cluster at a time."""
    required = {"CPU": cpus, "GPU": gpus}
    fitting = [int(resources.get(name, 0) / share) for name, share in required.items() if share]
    return min(fitting, default=1)
