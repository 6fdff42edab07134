"""Properties of a known data set."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Source:
    """Properties of a known data set. What is read is checked against them.

    Attributes:
        name: Name on the command line.
        hub: Identifier on the Hugging Face Hub. Empty for the digits, which scikit-learn contains.
        revision: Commit of the Hub repository. ``None`` uses and records the newest commit.
        folders: Names of folders that hold this data set, in lower case without punctuation.
        size: Side of its square images in pixels. ``None`` if the sizes differ.
        channels: 1 for gray, 3 for RGB.
        classes: Number of classes.
        class_names: Class names in label order. Empty if the stored names are used.
        train: Number of training images.
        test: Number of test images.
        mean: Mean pixel of the training images, scaled to [0, 1]. ``None`` if it is not checked.
    """

    name: str
    hub: str
    revision: str | None
    folders: tuple[str, ...]
    size: int | None
    channels: int
    classes: int
    class_names: tuple[str, ...]
    train: int
    test: int
    mean: float | None = None
