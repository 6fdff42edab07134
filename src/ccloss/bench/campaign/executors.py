"""Where runs are done: in this process, in several of this machine, or on a Ray cluster.

An executor takes a job and hands out a future. What it cannot know, because a process died, comes
as the future's exception; what went wrong inside a run is the job's to tell.
"""

import contextlib
import multiprocessing
import os
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor, Future, ProcessPoolExecutor
from multiprocessing.synchronize import Event
from typing import Any, Protocol, TypeVar

import torch

from ccloss.errors import InputError

T = TypeVar("T")

_ANSWER_SECONDS = 5.0
"""That the head of a cluster has to answer in."""

_LOOK_SECONDS = 0.5
"""Between looks of a worker at whether it is still wanted."""


class Executor(Protocol):
    """Does jobs, ``slots`` of them at a time."""

    @property
    def slots(self) -> int: ...

    def submit(self, job: Callable[[Any], T], argument: Any) -> "Future[T]": ...


class Here:
    """In this process, one after the other."""

    slots = 1

    def submit(self, job: Callable[[Any], T], argument: Any) -> "Future[T]":
        future: Future[T] = Future()
        future.set_result(job(argument))
        return future


class Processes:
    """In processes of this machine, its threads and its GPUs divided among them.

    A process that dies takes the pool with it, as the standard library has it; the next job starts
    another pool.
    """

    def __init__(self, slots: int) -> None:
        self.slots = slots
        self.threads = max(1, torch.get_num_threads() // slots)
        self.devices = _visible_devices()
        self.context = multiprocessing.get_context("spawn")
        self.stop = self.context.Event()
        self.pool: ProcessPoolExecutor | None = None

    def submit(self, job: Callable[[Any], T], argument: Any) -> "Future[T]":
        try:
            return self._running_pool().submit(job, argument)
        except BrokenExecutor:
            self.pool = None
            return self._running_pool().submit(job, argument)

    def close(self, at_once: bool) -> None:
        """Ends the processes: when idle, or in the midst of their work."""
        if at_once:
            self.stop.set()
        if self.pool is not None:
            self.pool.shutdown(cancel_futures=True)

    def _running_pool(self) -> ProcessPoolExecutor:
        if self.pool is None:
            started = self.context.Value("i", 0)
            self.pool = ProcessPoolExecutor(
                self.slots,
                mp_context=self.context,
                initializer=_start_worker,
                initargs=(self.stop, os.getpid(), self.threads, self.devices, started),
            )
        return self.pool


class Cluster:
    """On the machines of a Ray cluster that share a file system."""

    def __init__(self, address: str, cpus: float, gpus: float) -> None:
        ray = _import_ray()
        _check_answers(address)
        try:
            ray.init(address=address, log_to_driver=False, logging_level="ERROR")
        except ConnectionError as error:
            raise InputError(
                f"ray names {address!r}, where no cluster is ({error}); start one with "
                "`ray start --head`, or give its address"
            ) from None
        # Retries are the campaign's: it alone knows which runs another has taken.
        self.call = ray.remote(num_cpus=cpus, num_gpus=gpus, max_retries=0)(_call)
        self.slots = _slots(ray.cluster_resources(), cpus, gpus)
        if self.slots == 0:
            self.close()
            raise InputError(
                f"the cluster at {address} has no room for a run of {cpus:g} CPUs and {gpus:g} "
                "GPUs; ask for less a run"
            )

    def submit(self, job: Callable[[Any], T], argument: Any) -> "Future[T]":
        future: Future[T] = self.call.remote(job, argument).future()
        return future

    def close(self) -> None:
        """Leaves the cluster, which ends the jobs that still run there."""
        _import_ray().shutdown()


def device_count() -> int:
    """GPUs that runs can have, or 1, the processor, where there is none."""
    return len(_visible_devices()) or 1


@contextlib.contextmanager
def processes(slots: int) -> Iterator[Executor]:
    """Several processes of this machine, ended on the way out, at once if something goes wrong.

    Raises:
        InputError: there is no process to be, or others already train together with this one.
    """
    if slots < 1:
        raise InputError(f"slots must be 1 or more, got {slots}")
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise InputError(
            "jobs and ray are for runs side by side, and a launcher has started this process to "
            "do one run together with others; leave one of them out"
        )
    workers = Processes(slots)
    try:
        yield workers
    except BaseException:
        workers.close(at_once=True)
        raise
    workers.close(at_once=False)


@contextlib.contextmanager
def cluster(address: str, cpus: float = 1, gpus: float = 0) -> Iterator[Executor]:
    """A Ray cluster, such as ``auto``, ``10.0.0.1:6379`` or ``ray://10.0.0.1:10001``.

    Args:
        address: of its head.
        cpus: processor cores a run.
        gpus: GPUs a run; below 1, several runs share one.

    Raises:
        InputError: Ray is not installed, there is no such cluster, or no room on it.
    """
    machines = Cluster(address, cpus, gpus)
    try:
        yield machines
    finally:
        machines.close()


def _call(job: Callable[[Any], T], argument: Any) -> T:
    return job(argument)


def _start_worker(stop: Event, parent: int, threads: int, devices: list[str], started: Any) -> None:
    torch.set_num_threads(threads)
    if devices:
        with started.get_lock():
            os.environ["CUDA_VISIBLE_DEVICES"] = devices[started.value % len(devices)]
            started.value += 1
    threading.Thread(target=_end_when_unwanted, args=(stop, parent), daemon=True).start()


def _end_when_unwanted(stop: Event, parent: int) -> None:
    """A run takes hours: one whose campaign was stopped or killed must not go on alone."""
    while not stop.wait(_LOOK_SECONDS) and os.getppid() == parent:
        pass
    os._exit(1)


def _visible_devices() -> list[str]:
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [name for name in named.split(",") if name]
    return [str(number) for number in range(torch.cuda.device_count())]


def _import_ray() -> Any:
    try:
        import ray
    except ImportError:
        raise InputError(
            "ray is not installed, and --ray needs it; pip install 'ccloss[ray]'"
        ) from None
    return ray


def _check_answers(address: str) -> None:
    """Looks whether anything listens at an address: Ray itself would try for eight minutes."""
    host, colon, port = address.rpartition("://")[2].rpartition(":")
    if not colon:  # a name such as auto, which Ray looks up
        return
    try:
        socket.create_connection((host, int(port)), timeout=_ANSWER_SECONDS).close()
    except (OSError, ValueError, OverflowError) as error:
        raise InputError(
            f"ray names {address!r}, where no cluster answers ({error}); start one with "
            "`ray start --head`, or give its address"
        ) from None


def _slots(resources: dict[str, float], cpus: float, gpus: float) -> int:
    """Runs that find room at a time."""
    wanted = {"CPU": cpus, "GPU": gpus}
    rooms = [int(resources.get(name, 0) / share) for name, share in wanted.items() if share]
    return min(rooms, default=1)
