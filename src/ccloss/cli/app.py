"""The ``ccloss`` command: its subcommands, exit codes and error messages."""

import io
import logging
import os
import re
import sys
from collections.abc import Sequence
from itertools import pairwise

from cyclopts import App, CycloptsError, UnusedCliTokensError
from pydantic import ValidationError

from ccloss import __version__
from ccloss.cli.compare import compare
from ccloss.cli.config_file import use_files
from ccloss.cli.data import cache, list_data, verify
from ccloss.cli.export import export, push
from ccloss.cli.losses import losses
from ccloss.cli.parameters import option_names
from ccloss.cli.predict import predict
from ccloss.cli.report import report
from ccloss.cli.reproduce import reproduce
from ccloss.cli.train import evaluate, train
from ccloss.data.names import printable
from ccloss.errors import DivergenceError, InputError
from ccloss.training.config import explain

THIRD_PARTY = (
    "accelerate",
    "datasets",
    "fsspec",
    "httpx",
    "huggingface_hub",
    "matplotlib",
    "PIL",
    "pyarrow",
    "pytorch_metric_learning",
    "ray",
    "requests",
    "safetensors",
    "timm",
    "torchvision",
)
"""Packages whose own exception types report what a user can fix, such as a failed download."""

OUT_OF_MEMORY = ("DefaultCPUAllocator", "Storage size calculation overflowed")
"""Texts of PyTorch's errors for tensors that do not fit the memory."""

app = App(
    name="ccloss",
    version=__version__,
    help="Train and compare image classifiers with CC-Loss (Song et al., 2020).",
    config=use_files,
)
data_app = App(name="data", help="List and verify data sets, and manage the cache.")
data_app.command(list_data, name="list")
data_app.command(verify)
data_app.command(cache)
for command in (train, evaluate, predict, export, push, compare, reproduce, report, losses):
    app.command(command)
app.command(data_app)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command.

    Args:
        arguments: command line without the program's name; ``sys.argv[1:]`` by default.

    Returns:
        The exit code. 0: success. 1: the work failed (a loss diverged, data do not verify). 2: bad
        input, reported in one line on standard error. 130: interrupted.
    """
    _print_any_text()
    # The Hub's client logs every retry; the final error message is enough.
    logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
    tokens = [_loss_option(token) for token in (sys.argv[1:] if arguments is None else arguments)]
    try:
        return (
            app(tokens, exit_on_error=False, print_error=False, result_action="return_value") or 0
        )
    except BrokenPipeError:  # the reader of the output has closed it, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (KeyboardInterrupt, SystemExit):  # cyclopts turns the first into the second
        kept = "a training run keeps the checkpoint of its last complete epoch"
        return _fail(f"interrupted; {kept}", 130)
    except Exception as error:
        text = _message(error)
        if text is None:
            raise  # a defect of this package keeps its traceback
        return _fail(text, 1 if isinstance(error, DivergenceError) else 2)


def _message(error: Exception) -> str | None:
    """The message for an error that the user can fix; ``None`` for any other error."""
    if isinstance(error, CycloptsError) and isinstance(error.__cause__, ValidationError):
        return explain(error.__cause__)
    if isinstance(error, UnusedCliTokensError):
        return _unused_tokens(error)
    if isinstance(error, ValidationError):
        return explain(error)
    if isinstance(error, CycloptsError | InputError | DivergenceError):
        return str(error)
    if isinstance(error, OSError):
        return _disk_error(error)
    if _is_out_of_memory(error):
        return "out of memory; use a smaller network, a smaller --batch-size or fewer --jobs"
    package = type(error).__module__.partition(".")[0]
    return f"{package}: {error}" if package in THIRD_PARTY else None


def _unused_tokens(error: UnusedCliTokensError) -> str:
    """The message for words without a meaning: a switch takes no value."""
    unused = error.unused_tokens or []
    tokens = list(error.root_input_tokens or [])
    for option, word in pairwise(tokens):
        if word in unused and word.lower() in ("true", "false") and option.startswith("--"):
            name = option.removeprefix("--").removeprefix("no-")
            return f"{option} takes no value, got {word!r}; write --{name} or --no-{name}"
    return str(error)


def _is_out_of_memory(error: Exception) -> bool:
    """PyTorch raises a plain RuntimeError if the memory of the CPU does not suffice."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and any(text in str(error) for text in OUT_OF_MEMORY)


def _print_any_text() -> None:
    """Lets names that the terminal cannot encode be printed as escapes instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _loss_option(token: str) -> str:
    """Translates ``--loss.class-weights`` to the field ``loss_options`` of the experiment."""
    head, dot, tail = token.partition(".")
    if not dot or head != "--loss":
        return token
    name, equals, value = tail.partition("=")
    return f"--loss-options.{name.replace('-', '_')}{equals}{value}"


def _disk_error(error: OSError) -> str:
    if error.filename is None:
        return str(error)
    return f"{error.filename}: {error.strerror}; fix this or choose another folder"


def _fail(text: str, code: int) -> int:
    print(f"error: {printable(_with_option_names(' '.join(text.split())))}", file=sys.stderr)
    return code


def _with_option_names(text: str) -> str:
    """Writes arguments of functions as options of the command: ``--train-limit``.

    A name with an underscore is replaced anywhere outside paths and quotes, a plain word such as
    ``flip`` only at the start, where messages name the argument.
    """
    text = re.sub(r"\bloss_options\.(\w+)", lambda match: _loss_spelling(match[1]), text)
    text = re.sub(r"(?<!-)--loss-options\.(\w+)", lambda match: _loss_spelling(match[1]), text)
    for name, option in option_names().items():
        prefix = r"(?<![\w./'\"=-])" if "_" in name else "^"
        text = re.sub(rf"{prefix}{name}(?![\w/'\"=-]|\.\w)", option, text)
    return text


def _loss_spelling(name: str) -> str:
    return f"--loss.{name.replace('_', '-')}"
