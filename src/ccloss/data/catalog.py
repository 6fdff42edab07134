"""The data sets known by name. This module imports neither torch nor an image library."""

import os
from pathlib import Path

from ccloss.data.source import Source
from ccloss.errors import InputError, did_you_mean

FOLDER_PREFIX = "folder:"
HUB_PREFIX = "hub:"

_DIGITS = tuple("0123456789")
_CIFAR10 = "airplane automobile bird cat deer dog frog horse ship truck"
_CIFAR100 = """
apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly
camel can castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup
dinosaur dolphin elephant flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower
leopard lion lizard lobster man maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid
otter palm_tree pear pickup_truck pine_tree plain plate poppy porcupine possum rabbit raccoon ray
road rocket rose sea seal shark shrew skunk skyscraper snail snake spider squirrel streetcar
sunflower sweet_pepper table tank telephone television tiger tractor train trout tulip turtle
wardrobe whale willow_tree wolf woman worm
"""
_FASHION = (
    "T-shirt/top",
    "Trouser",
    "Pullover",
    "Dress",
    "Coat",
    "Sandal",
    "Shirt",
    "Sneaker",
    "Bag",
    "Ankle boot",
)


SOURCES: dict[str, Source] = {
    source.name: source
    for source in (
        Source(
            name="digits",
            hub="",
            revision=None,
            folders=(),
            size=8,
            channels=1,
            classes=10,
            class_names=_DIGITS,
            train=1_297,
            test=500,
        ),
        Source(
            name="mnist",
            hub="ylecun/mnist",
            revision="77f3279092a1c1579b2250db8eafed0ad422088c",
            folders=("mnist",),
            size=28,
            channels=1,
            classes=10,
            class_names=_DIGITS,
            train=60_000,
            test=10_000,
            mean=0.1307,
        ),
        Source(
            name="fashion-mnist",
            hub="zalando-datasets/fashion_mnist",
            revision=None,
            folders=("fashionmnist",),
            size=28,
            channels=1,
            classes=10,
            class_names=_FASHION,
            train=60_000,
            test=10_000,
            mean=0.2860,
        ),
        Source(
            name="kmnist",
            hub="tanganke/kmnist",
            revision=None,
            folders=("kmnist",),
            size=28,
            channels=1,
            classes=10,
            class_names=(),
            train=60_000,
            test=10_000,
            mean=0.1918,
        ),
        Source(
            name="cifar10",
            hub="uoft-cs/cifar10",
            revision="0b2714987fa478483af9968de7c934580d0bb9a2",
            folders=("cifar10", "cifar10python", "cifar10batchespy"),
            size=32,
            channels=3,
            classes=10,
            class_names=tuple(_CIFAR10.split()),
            train=50_000,
            test=10_000,
        ),
        Source(
            name="cifar100",
            hub="uoft-cs/cifar100",
            revision="aadb3af77e9048adbea6b47c21a81e47dd092ae5",
            folders=("cifar100", "cifar100python"),
            size=32,
            channels=3,
            classes=100,
            class_names=tuple(_CIFAR100.split()),
            train=50_000,
            test=10_000,
        ),
        Source(
            name="cars196",
            hub="tanganke/stanford_cars",
            revision="9abf6cf7d6dfa7b95152a0d6e791ea9435b47a40",
            folders=("cars196", "stanfordcars", "cars", "cardata"),
            size=None,
            channels=3,
            classes=196,
            class_names=(),
            train=8_144,
            test=8_041,
        ),
    )
}


def letters(name: str) -> str:
    """The letters and digits of a name in lower case. Two spellings of a name compare equal."""
    return "".join(character for character in name.casefold() if character.isalnum())


_NAMES = {letters(name): name for name in SOURCES}


def resolve_data_name(name: str) -> str:
    """The canonical form of a data set name, as records store it.

    Args:
        name: A catalog name in any case; ``folder:PATH``; a path that exists or contains a
            separator; or ``hub:OWNER/NAME``, with ``@REVISION`` appended if you want to choose it.

    Returns:
        A catalog name, ``folder:`` with an absolute path, or ``hub:OWNER/NAME``.

    Raises:
        InputError: The name is none of these.
    """
    if name.startswith(FOLDER_PREFIX):
        return _folder_name(name.removeprefix(FOLDER_PREFIX))
    if name.startswith(HUB_PREFIX):
        if name.removeprefix(HUB_PREFIX).partition("@")[0].count("/") != 1:
            raise InputError(f"data {name!r} must have the form hub:OWNER/NAME[@REVISION]")
        return name
    is_path = os.sep in name
    if letters(name) in _NAMES and not is_path:
        return _NAMES[letters(name)]
    if is_path or name.startswith(("~", ".")) or (name and Path(name).exists()):
        return _folder_name(name)
    raise InputError(
        f"data must be one of {', '.join(SOURCES)}, folder:PATH or hub:OWNER/NAME, got {name!r}"
        + did_you_mean(name.casefold(), SOURCES)
    )


def _folder_name(path: str) -> str:
    if not path:
        raise InputError(f"data {FOLDER_PREFIX} names no folder; use {FOLDER_PREFIX}PATH")
    return FOLDER_PREFIX + os.path.abspath(Path(path).expanduser())
