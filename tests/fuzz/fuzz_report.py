"""Executes one case of a fuzz test and classifies what happens."""

import contextlib
import io
import os
import signal
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, NamedTuple

from ccloss.cli import main
from ccloss.errors import DivergenceError, InputError

CASE_SECONDS = 600.0
"""A case that takes longer hangs; on a machine with other work it can take a minute."""

EXIT_CODES = (0, 1, 2)


class Hang(BaseException):
    """Raised inside a case that takes too long."""


class Output(NamedTuple):
    """What a command returned and printed."""

    code: int
    out: str
    err: str


class Report:
    """Counts faults and prints each of them.

    A *traceback* is any error but an input error, a *hang* a case without end, and a *silent
    difference* a wrong result, exit code or message.
    """

    def __init__(self) -> None:
        self.cases: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()
        self.results: Counter[str] = Counter()

    def fault(self, kind: str, case: str, detail: str) -> None:
        self.faults[kind] += 1
        print(f"{kind}: {case}\n    {detail}", flush=True)

    def summary(self) -> str:
        """Results of the cases in one line, and the faults in another."""
        results = ", ".join(f"{number} {name}" for name, number in sorted(self.results.items()))
        cases = ", ".join(f"{number} {name}" for name, number in self.cases.items())
        names = ("traceback", "hang", "silent difference")
        counts = ", ".join(f"{self.faults[name]} {name}s" for name in names)
        return f"results: {results}\n{cases}: {counts}"

    @contextlib.contextmanager
    def case(self, group: str, name: str) -> Iterator[None]:
        """Executes the block as one case."""
        self.cases[group] += 1
        try:
            with _time_limit():
                yield
        except (InputError, DivergenceError) as error:
            self.results["input error"] += 1
            if len(str(error).splitlines()) != 1:
                self.fault("silent difference", name, f"message of several lines: {error}")
        except Hang:
            self.fault("hang", name, f"no result after {CASE_SECONDS:.0f} s")
        except Exception as error:
            frame = traceback.extract_tb(error.__traceback__)[-1]
            where = f"{os.path.basename(frame.filename)}:{frame.lineno}"
            text = " ".join(str(error).split())[:300]
            self.fault("traceback", name, f"{type(error).__name__}: {text} ({where})")

    def command(self, name: str, arguments: list[str]) -> Output:
        """Runs the command and checks its exit code and its error message."""
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main(arguments)
        self.results[f"exit code {code}"] += 1
        output = Output(code, out.getvalue(), err.getvalue())
        errors = [line for line in output.err.splitlines() if line.startswith("error: ")]
        if code not in EXIT_CODES:
            self.fault("silent difference", name, f"exit code {code}")
        if (code == 2) != (len(errors) == 1):
            self.fault("silent difference", name, f"exit code {code} with {len(errors)} errors")
        return output


@contextlib.contextmanager
def _time_limit() -> Iterator[None]:
    def stop(number: int, frame: FrameType | None) -> None:
        raise Hang

    before: Callable[..., Any] | int | None = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, CASE_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
