"""What is said when something cannot be done."""

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Literal


class InputError(ValueError):
    """Bad input: one line that names the argument, what came, and how to mend it.

    Every room raises it for what a caller can mend; the command turns it into one line on standard
    error and exit code 2. Anything else that escapes is a defect of ours and keeps its traceback.
    """


class BusyError(InputError):
    """Another process holds the run folder."""


class DivergenceError(RuntimeError):
    """Training has come to a loss that is not finite; one line with the step, terms, and advice."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The end of a message about an unknown name: the nearest known one, if any is near."""
    close = get_close_matches(name, list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


_OTHERS = {
    "loss": "pml:NAME of pytorch-metric-learning",
    "backbone": "timm:<name>",
    "data": "folder:<path>",
}


def unknown_name(
    kind: Literal["loss", "backbone", "data"], name: str, known: Iterable[str]
) -> InputError:
    """What to say of a loss, a backbone or a data set that there is not."""
    return InputError(
        f"{kind} must be one of {', '.join(known)} or {_OTHERS[kind]}, got {name!r}"
        + did_you_mean(name, known)
    )


def unknown_option(loss: str, option: str, known: Iterable[str]) -> InputError:
    """What to say of an option that a loss does not have."""
    return InputError(
        f"loss {loss} has no option {option!r}: it has {', '.join(known)}"
        + did_you_mean(option, known)
    )
