"""Style, colours, names and files of figures; matplotlib without pyplot's global state."""

import contextlib
import io
import math
import textwrap
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ccloss.bench.report.folder import write_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Colour = tuple[float, float, float, float]

NAMED_CLASSES = 20
"""More classes than this are not named one by one."""

_FALLBACK_FONTS = (
    "Noto Sans CJK JP",
    "Noto Sans CJK SC",
    "Source Han Sans",
    "WenQuanYi Zen Hei",
    "Droid Sans Fallback",
    "IPAGothic",
    "PingFang SC",
    "Microsoft YaHei",
)
"""Fonts for scripts that DejaVu Sans does not contain; used where they are installed."""

_LEAST_WIDTH = 5.0  # inches, so that a title fits above a single panel
_LETTERS_PER_INCH = 13.5  # of the title's font

_STYLE = {
    "font.size": 9,
    "axes.titlesize": 9,
    "figure.titlesize": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "svg.hashsalt": "ccloss",  # the same ids in every file, so that equal figures are equal bytes
}

# Okabe and Ito's palette without its yellow, which is too pale for lines.
_METHOD_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_LINE_STYLES = ("-", "--", ":", "-.")

# Tol's muted palette and a dark grey: ten colours that colour-blind readers can distinguish.
_CLASS_COLOURS = (
    *("#332288", "#DDCC77", "#CC6677", "#88CCEE", "#117733"),
    *("#AA4499", "#999933", "#44AA99", "#882255", "#444444"),
)

# The same hues, light enough for a dark page.
_METHOD_COLOURS_ON_DARK = (
    *("#5AA9E6", "#FF8C5A", "#2FC79A", "#E7A3CC", "#F2B632", "#A5DBFF", "#F2F2F2"),
)
_CLASS_COLOURS_ON_DARK = (
    *("#8C7FE8", "#E8D98A", "#E88996", "#9ADCF5", "#3FB56B"),
    *("#D07FD0", "#C2C25A", "#5FD0C0", "#D9639F", "#BBBBBB"),
)


def palette() -> dict[str, list[str]]:
    """Colours of methods by their order in a report, on a light and on a dark page."""
    return {"light": list(_METHOD_COLOURS), "dark": list(_METHOD_COLOURS_ON_DARK)}


def class_palette(classes: int) -> dict[str, list[str]]:
    """Colours of classes in label order, on a light and on a dark page."""
    if classes <= len(_CLASS_COLOURS):
        return {
            "light": list(_CLASS_COLOURS[:classes]),
            "dark": list(_CLASS_COLOURS_ON_DARK[:classes]),
        }
    from matplotlib.colors import to_hex

    colours = [to_hex(colour) for colour in class_colours(classes)]
    return {"light": colours, "dark": colours}


@contextlib.contextmanager
def style() -> Iterator[None]:
    """The style of this library's figures, whatever the user's own settings."""
    from matplotlib import style as styles

    with styles.context(["default", {**_STYLE, "font.family": _fonts()}]):
        yield


@cache
def _fonts() -> list[str]:
    """DejaVu Sans, which comes with matplotlib, and the installed fallback fonts."""
    from matplotlib.font_manager import fontManager

    installed = set(fontManager.get_font_names())
    return ["DejaVu Sans", *(name for name in _FALLBACK_FONTS if name in installed)]


@cache
def _characters() -> frozenset[int]:
    """Code points that the fonts of the figures can show."""
    from matplotlib.font_manager import FontProperties, findfont, get_font

    paths = [findfont(FontProperties(family=name)) for name in _fonts()]
    return frozenset(code for path in paths for code in get_font(path).get_charmap())


def method_line(position: int) -> dict[str, Any]:
    """Colour and line style of a method by its position in `ccloss.bench.groups.method_order`."""
    repeats, colour = divmod(position, len(_METHOD_COLOURS))
    return {
        "color": _METHOD_COLOURS[colour],
        "linestyle": _LINE_STYLES[repeats % len(_LINE_STYLES)],
    }


def class_colours(classes: int) -> list[Colour]:
    """A colour for each class: distinct ones for few classes, then a cycle of hues."""
    from matplotlib import colormaps
    from matplotlib.colors import to_rgba

    if classes <= len(_CLASS_COLOURS):
        return [to_rgba(colour) for colour in _CLASS_COLOURS[:classes]]
    if classes <= NAMED_CLASSES:
        return [colormaps["tab20"](label) for label in range(classes)]
    return [colormaps["hsv"](label / classes) for label in range(classes)]


def label(name: str, width: int = 28) -> str:
    """A name that the figures can show, in at most ``width`` characters.

    Characters without a glyph are transliterated to ASCII, and marked by a leading ``~``. The
    middle of a long name is left out, and a dollar sign does not start mathematics.
    """
    text = " ".join(name.split())
    if any(ord(character) not in _characters() for character in text):
        from anyascii import anyascii

        text = f"~{anyascii(text)}"
    half = (width - 1) // 2
    short = text if len(text) <= width else f"{text[:half]}…{text[-half:]}"
    return short.replace("$", r"\$")


def panels(count: int, columns: int, width: float, height: float) -> "tuple[Figure, list[Axes]]":
    """A figure of ``count`` panels, each of ``width`` by ``height`` inches, row by row."""
    from matplotlib.figure import Figure

    columns = min(columns, count)
    rows = math.ceil(count / columns)
    size = (max(_LEAST_WIDTH, width * columns), height * rows + 0.8)
    figure = Figure(figsize=size, layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False).flatten()
    for spare in grid[count:]:
        spare.remove()
    return figure, list(grid[:count])


def title(figure: "Figure", *sentences: str) -> None:
    """Sets the title; each sentence starts a line, wrapped to the width of the figure."""
    width = int(figure.get_figwidth() * _LETTERS_PER_INCH)
    figure.suptitle("\n".join(textwrap.fill(sentence, width) for sentence in sentences))


def save(figure: "Figure", folder: Path, name: str) -> Path:
    """Writes ``name.png`` (150 dpi) and ``name.svg``; returns the path of the first."""
    png, svg = folder / f"{name}.png", folder / f"{name}.svg"
    write_file(png, _render(figure, "png", "Software"))
    figure.set_layout_engine("none")  # keep the layout; computing it again takes half the time
    write_file(svg, _render(figure, "svg", "Date"))
    return png


def remove(folder: Path, name: str) -> None:
    """Deletes a figure that an earlier report left, if there is one."""
    for ending in ("png", "svg"):
        (folder / f"{name}.{ending}").unlink(missing_ok=True)


def _render(figure: "Figure", kind: str, omitted: str) -> bytes:
    """The bytes of the file, without the metadata that changes from day to day."""
    content = io.BytesIO()
    figure.savefig(content, format=kind, dpi=150, metadata={omitted: None})
    return content.getvalue()
