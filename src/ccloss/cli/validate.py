"""Checks of an experiment's names and loss options before any data are loaded."""

from ccloss.bench.experiment import BACKBONES, Experiment
from ccloss.data.catalog import FOLDER_PREFIX, SOURCES
from ccloss.errors import unknown_name


def require_valid(experiment: Experiment) -> None:
    """Raises :class:`InputError` for an unknown data set, backbone, loss or loss option."""
    data, backbone = experiment.data, experiment.backbone
    if not (data in SOURCES or data.startswith(FOLDER_PREFIX)):
        raise unknown_name("data", data, SOURCES)
    if backbone is not None and not (backbone in BACKBONES or backbone.startswith("timm:")):
        raise unknown_name("backbone", backbone, BACKBONES)

    from ccloss.losses import make_loss

    make_loss(experiment.loss_name, experiment.loss_options, num_classes=1, features=1)
