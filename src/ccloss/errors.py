"""Exceptions for what a user can fix, and their messages."""

from collections.abc import Iterable
from difflib import get_close_matches
from importlib import import_module
from typing import Any, Literal


class InputError(ValueError):
    """Bad input. The message is one line that names the argument, its value and the remedy.

    All packages raise it for errors that the caller can fix. The command prints the message on
    standard error and exits with code 2. Any other exception is a bug and keeps its traceback.
    """


class BusyError(InputError):
    """Another process holds the run folder."""


class DivergenceError(RuntimeError):
    """The loss is not finite. The message names the step, the terms and a remedy."""


def import_package(name: str, what: str, extra: str) -> Any:
    """Imports a package of an extra, which ``what`` needs.

    Raises:
        InputError: it cannot be imported.
    """
    try:
        return import_module(name)
    except ImportError as error:
        raise InputError(
            f'{what} needs {name} ({error}); run: pip install "ccloss[{extra}]"'
        ) from None


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or its type if it has none."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The end of a message about an unknown name: the most similar known name, if there is one."""
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
    """The error about an unknown loss, backbone or data set."""
    return InputError(
        f"{kind} must be one of {', '.join(known)} or {_OTHERS[kind]}, got {name!r}"
        + did_you_mean(name, known)
    )


def unknown_option(loss: str, option: str, known: Iterable[str]) -> InputError:
    """The error about an option that a loss does not have."""
    return InputError(
        f"loss {loss} has no option {option!r}: it has {', '.join(known)}"
        + did_you_mean(option, known)
    )
