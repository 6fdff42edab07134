"""Errors of other packages, missing packages, and names that a terminal cannot show."""

import io
import subprocess
import sys

import pytest

from ccloss.cli import main
from ccloss.cli.console import print_table
from ccloss.data.names import printable

BLOCKED = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == {package!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)

sys.meta_path.insert(0, Blocker())
from ccloss.cli import main
sys.exit(main({arguments!r}))
"""


@pytest.mark.parametrize(
    ("package", "arguments"),
    [("cyclopts", ["--help"]), ("pydantic", ["losses"])],
)
def test_missing_package_is_one_line(package: str, arguments: list[str]) -> None:
    code = BLOCKED.format(package=package, arguments=arguments)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 2, done.stderr
    assert done.stdout == ""
    assert done.stderr.splitlines() == [
        f"error: the command needs the package {package}, which is not installed; "
        'run: pip install "ccloss[bench]"'
    ]


def raising(monkeypatch: pytest.MonkeyPatch, error: Exception) -> list[str]:
    """A command line whose work raises the error."""

    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("ccloss.training.components.load_data", fail)
    return ["train", "--data", "digits"]


class _HubError(Exception):
    __module__ = "huggingface_hub.errors"


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (_HubError("Bad\nGateway"), "error: huggingface_hub: Bad Gateway"),
        (MemoryError(), "error: out of memory; use a smaller network, a smaller --batch-size"),
        (OSError(28, "No space left on device", "a/b"), "error: a/b: No space left on device; "),
        (
            ModuleNotFoundError("No module named 'torchvision'", name="torchvision"),
            "error: the command needs the package torchvision, which is not installed; run: pip ",
        ),
    ],
)
def test_error_that_the_user_can_fix_is_one_line(
    error: Exception,
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(raising(monkeypatch, error)) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(message)


def test_defect_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ZeroDivisionError):
        main(raising(monkeypatch, ZeroDivisionError()))


NAMES = {
    "[v2]": "[v2]",
    ":smile: [bold]x[/bold]": ":smile: [bold]x[/bold]",
    "two\nlines\x1b[31m": r"two\nlines\x1b[31m",
    "caf\udce9": r"caf\xe9",
    "\u2028": r"\u2028",
    "猫 حصان": "猫 حصان",
}


@pytest.mark.parametrize("name", NAMES)
def test_names_are_shown_literally(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    text = io.StringIO()
    monkeypatch.setattr("sys.stdout", text)
    print_table(("metric", name), [(name, "1")])
    assert printable(name) == NAMES[name]
    assert text.getvalue().count(NAMES[name]) == 2
    assert text.getvalue().encode()  # valid UTF-8


def test_long_word_is_folded_and_not_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    text = io.StringIO()
    monkeypatch.setattr("sys.stdout", text)
    monkeypatch.setenv("COLUMNS", "40")
    word = "".join(chr(ord("a") + number % 26) for number in range(200))
    print_table(("name",), [(word,)])
    shown = "".join(line[2:-2].strip() for line in text.getvalue().splitlines()[3:-1])
    assert shown == word
