"""The data sets known by name. Imports neither torch nor any image library."""

from dataclasses import dataclass

FOLDER_PREFIX = "folder:"


@dataclass(frozen=True)
class Source:
    """What is known about a data set before it is read; checked against what is read.

    Attributes:
        name: its name on the command line and its folder under the data root.
        hub: its id on the Hugging Face Hub; empty for the digits, which scikit-learn embeds.
        image_columns: names its image column may have in Hub parquet, the first match is taken.
        label_columns: names its label column may have.
        size: side of its square images in pixels; ``None`` if the images differ in size.
        channels: 1 gray, 3 RGB.
        classes: number of classes.
        train: number of training images.
        test: number of test images.
    """

    name: str
    hub: str
    image_columns: tuple[str, ...]
    label_columns: tuple[str, ...]
    size: int | None
    channels: int
    classes: int
    train: int
    test: int


SOURCES: dict[str, Source] = {
    source.name: source
    for source in (
        Source("digits", "", (), (), 8, 1, 10, 1_297, 500),
        Source("mnist", "ylecun/mnist", ("image",), ("label",), 28, 1, 10, 60_000, 10_000),
        Source(
            "cifar100",
            "uoft-cs/cifar100",
            ("img", "image"),
            ("fine_label", "label"),
            32,
            3,
            100,
            50_000,
            10_000,
        ),
        Source(
            "cars196", "tanganke/stanford_cars", ("image",), ("label",), None, 3, 196, 8_144, 8_041
        ),
    )
}
