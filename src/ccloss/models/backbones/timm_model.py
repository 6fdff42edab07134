"""Any model of timm as a backbone."""

from typing import Any

from torch import Tensor

from ccloss.errors import InputError, did_you_mean, first_line, import_package
from ccloss.models.backbones.base import Backbone, feature_width, statistics_for


class TimmBackbone(Backbone):
    """A model of timm without its classifier; the model's own pooling gives the features."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> tuple[Tensor | None, Tensor]:
        features = self.model.forward_features(images)
        vectors = self.model.forward_head(features, pre_logits=True)
        return self._feature_map(features), vectors

    def _feature_map(self, features: Tensor) -> Tensor | None:
        """(N, C, H, W), with channels moved to the front if necessary; ``None`` for tokens."""
        if features.ndim != 4:
            return None
        channels_last = getattr(self.model, "output_fmt", "NCHW") == "NHWC"
        return features.permute(0, 3, 1, 2) if channels_last else features


def timm_backbone(name: str, in_channels: int, image_size: int, pretrained: bool) -> Backbone:
    """Builds a model of timm by its name there.

    Raises:
        InputError: timm is not installed or has no such model, the model does not take the image
            size, or its weights cannot be fetched.
    """
    timm = import_package("timm", f"backbone timm:{name}", "bench")
    if not timm.is_model(name):
        raise InputError(
            f"backbone timm:{name} is not a model of timm {timm.__version__}"
            + did_you_mean(name, timm.list_models())
        )
    config = timm.get_pretrained_cfg(name)
    size: dict[str, Any] = (
        {"img_size": image_size} if config is not None and config.fixed_input_size else {}
    )
    try:
        model = timm.create_model(
            name, pretrained=pretrained, in_chans=in_channels, num_classes=0, **size
        )
        backbone = TimmBackbone(model)
        feature_width(backbone, in_channels, image_size)
    except Exception as error:  # timm's models raise errors of many types
        raise InputError(_error_message(name, image_size, pretrained, error)) from error
    if pretrained:
        trained: Any = model.pretrained_cfg
        statistics = (tuple(trained["mean"]), tuple(trained["std"]))
        backbone.pixel_statistics = statistics_for(statistics, in_channels)
    return backbone


def _error_message(name: str, image_size: int, pretrained: bool, error: Exception) -> str:
    reason = first_line(error)
    if pretrained:
        return (
            f"backbone timm:{name} could not be built with its pretrained weights ({reason}); if "
            "they are not in the cache yet, fetch them once with a network (HF_HOME sets the "
            "cache folder), or use pretrained=False"
        )
    return (
        f"backbone timm:{name} does not take images of {image_size} px ({reason}); "
        "choose another image_size or backbone"
    )
