"""Backbones against torchvision's and timm's own models."""

import math
import sys
from pathlib import Path

import pytest
import timm
import torch
import torchvision
from torch import Tensor, nn
from torchvision.models import vgg16_bn

from ccloss import build_model
from ccloss.errors import InputError
from ccloss.models.backbones import BACKBONES, IMAGENET_STATISTICS, Backbone, build_backbone
from ccloss.models.backbones.base import MapBackbone


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.mark.parametrize(
    ("backbone", "size", "channels", "map_shape"),
    [
        ("vgg16", 24, 1, (512, 2, 2)),
        ("vgg16", 32, 3, (512, 2, 2)),
        ("vgg16", 224, 3, (512, 7, 7)),
        ("resnet18", 32, 3, (512, 4, 4)),
        ("resnet18", 96, 3, (512, 3, 3)),
        ("convnet", 8, 1, (128, 2, 2)),
        ("timm:resnet10t", 32, 3, (512, 1, 1)),
        ("timm:vit_tiny_patch16_224", 32, 3, None),
        ("timm:swin_tiny_patch4_window7_224", 32, 3, (768, 1, 1)),
    ],
)
def test_every_backbone_gives_an_output(
    backbone: str, size: int, channels: int, map_shape: tuple[int, ...] | None
) -> None:
    model = build_model(backbone, 7, channels, size, hidden_features=16).eval()
    with torch.no_grad():
        output = model(draw(1, channels, size, size))
    assert output.logits.shape == (1, 7)
    assert output.features.shape == output.attention.shape == (1, 16)
    assert (None if output.feature_map is None else output.feature_map.shape[1:]) == map_shape
    assert torch.isfinite(output.logits).all()


def test_map_of_a_channels_last_model_has_channels_first() -> None:
    backbone = build_backbone("timm:swin_tiny_patch4_window7_224", 3, 64, False).eval()
    with torch.no_grad():
        feature_map, vectors = backbone(draw(1, 3, 64, 64))
    assert feature_map is not None
    assert feature_map.shape == (1, 768, 2, 2)
    torch.testing.assert_close(feature_map.mean((2, 3)), vectors, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("final_pool", ["max", "average"])
def test_vgg16_is_torchvisions_with_pools_that_round_up(final_pool: str) -> None:
    backbone = build_backbone("vgg16", 3, 24, False, final_pool).eval()
    theirs = vgg16_bn().features.eval()
    theirs.load_state_dict(
        {key.removeprefix("layers."): value for key, value in backbone.state_dict().items()}
    )
    for layer in theirs:
        if isinstance(layer, nn.MaxPool2d):
            layer.ceil_mode = True
    for size, sides in ((24, 1), (32, 1), (33, 2), (64, 2)):
        images = draw(1, 3, size, size)
        with torch.no_grad():
            feature_map, features = backbone(images)
            before = theirs[:-1](images)
            pooled = theirs(images)
        assert pooled.shape == (1, 512, sides, sides)
        assert torch.equal(features, pooled if final_pool == "max" else before)
        # The map of losses that compare positions has more than one.
        last = features if features.shape[-1] > 1 else before
        assert feature_map is not None
        assert torch.equal(feature_map, last)


def test_final_pool_is_an_option_of_vgg16_only() -> None:
    with pytest.raises(InputError, match=r'final_pool must be "max" for backbone convnet'):
        build_model("convnet", 10, image_size=8, final_pool="average")
    with pytest.raises(InputError, match='final_pool must be "max" or "average", got \'min\''):
        build_model("vgg16", 10, final_pool="min")


@pytest.mark.parametrize(
    ("backbone", "package"),
    [
        ("vgg16", "torchvision.models.vgg"),
        ("resnet18", "torchvision.models"),
        ("timm:resnet10t", "timm"),
    ],
)
def test_missing_package_is_one_line(
    backbone: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    message = rf'backbone {backbone} needs {package} .*: pip install "ccloss\[bench\]"$'
    with pytest.raises(InputError, match=message):
        build_model(backbone, 10)


def test_backbone_of_ones_own_is_registered_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def patches(in_channels: int, image_size: int, pretrained: bool) -> Backbone:
        return MapBackbone(nn.Conv2d(in_channels, 6, image_size // 2, image_size // 2))

    monkeypatch.setitem(BACKBONES, "patches", patches)
    output = build_model("patches", 10, image_size=8)(draw(2, 3, 8, 8))
    assert output.feature_map.shape == (2, 6, 2, 2)
    assert output.logits.shape == (2, 10)


@pytest.mark.parametrize(
    ("size", "kernel", "stride", "pooled"), [(64, 3, 1, False), (65, 7, 2, True)]
)
def test_resnet18_has_a_stem_for_its_image_size(
    size: int, kernel: int, stride: int, pooled: bool
) -> None:
    layers = list(build_backbone("resnet18", 3, size, False).modules())
    stem = next(layer for layer in layers if isinstance(layer, nn.Conv2d))
    assert (stem.kernel_size, stem.stride) == ((kernel, kernel), (stride, stride))
    assert any(isinstance(layer, nn.MaxPool2d) for layer in layers) == pooled


@pytest.mark.parametrize("name", ["vgg16", "resnet18", "convnet"])
def test_convolutions_start_as_he_et_al(name: str) -> None:
    for layer in build_backbone(name, 3, 32, False).modules():
        if isinstance(layer, nn.Conv2d):
            expected = math.sqrt(2 / layer.weight[0].numel())
            # The standard deviation of n draws scatters by 1 / sqrt(2 n).
            scatter = 5 / math.sqrt(2 * layer.weight.numel())
            assert abs(layer.weight.std() / expected - 1) < scatter
            assert layer.bias is None or not layer.bias.any()


def test_unknown_backbone_gets_the_nearest_name_as_a_suggestion() -> None:
    with pytest.raises(InputError, match=r"vgg16, resnet18.*got 'vgg61'; did you mean 'vgg16'"):
        build_model("vgg61", 10)
    with pytest.raises(InputError, match=r"timm:resnet10x is not a model of timm.*did you mean"):
        build_model("timm:resnet10x", 10)


def test_image_size_that_a_timm_model_does_not_take_is_one_line() -> None:
    with pytest.raises(InputError, match=r"does not take images of 8 px") as raised:
        build_model("timm:vit_tiny_patch16_224", 10, image_size=8)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("argument", ["num_classes", "in_channels", "image_size"])
def test_build_model_rejects_sizes_below_one(argument: str) -> None:
    sizes = {"num_classes": 10, "in_channels": 3, "image_size": 32, argument: 0}
    with pytest.raises(InputError, match=f"{argument} must be an integer of at least 1, got 0"):
        build_model("convnet", **sizes)


# --- pretrained weights


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of torch.hub."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder


def first_conv(module: nn.Module) -> nn.Conv2d:
    return next(layer for layer in module.modules() if isinstance(layer, nn.Conv2d))


@pytest.fixture
def resnet_weights(cache: Path) -> dict[str, Tensor]:
    state = torchvision.models.resnet18().state_dict()
    state["bn1.running_mean"] += 3
    name = torchvision.models.ResNet18_Weights.IMAGENET1K_V1.url.rsplit("/", 1)[1]
    torch.save(state, cache / name)
    return state


def test_pretrained_resnet18_has_torchvisions_weights(resnet_weights: dict[str, Tensor]) -> None:
    model = build_model("resnet18", 7, image_size=96, pretrained=True)
    assert torch.equal(first_conv(model).weight, resnet_weights["conv1.weight"])
    loaded = model.state_dict().values()
    for name, tensor in resnet_weights.items():
        if not name.startswith("fc."):
            assert any(tensor.shape == t.shape and torch.equal(tensor, t) for t in loaded), name


def test_pretrained_weights_bring_their_pixel_statistics(
    resnet_weights: dict[str, Tensor],
) -> None:
    model = build_model("resnet18", 7, image_size=96, pretrained=True)
    mean, std = IMAGENET_STATISTICS
    torch.testing.assert_close(model.pixel_mean.flatten(), torch.tensor(mean))
    torch.testing.assert_close(model.pixel_std.flatten(), torch.tensor(std))


@pytest.mark.parametrize("channels", [1, 4])
def test_gray_images_of_any_number_of_channels_give_the_output_of_their_rgb_copy(
    resnet_weights: dict[str, Tensor], channels: int
) -> None:
    other = build_backbone("resnet18", channels, 96, True)
    rgb = build_backbone("resnet18", 3, 96, True)
    gray = draw(2, 1, 96, 96)
    torch.testing.assert_close(
        first_conv(other)(gray.expand(-1, channels, -1, -1)),
        first_conv(rgb)(gray.expand(-1, 3, -1, -1)),
        rtol=1e-4,
        atol=1e-5,
    )
    assert other.pixel_statistics is not None
    means = other.pixel_statistics[0]
    torch.testing.assert_close(means, (sum(IMAGENET_STATISTICS[0]) / 3,) * channels)


def test_pretrained_vgg16_has_torchvisions_weights(cache: Path) -> None:
    # The classifier of vgg16_bn has 500 MB; expanded from one value it takes no space.
    weights = torchvision.models.VGG16_BN_Weights.IMAGENET1K_V1
    with torch.device("meta"):
        shapes = torchvision.models.vgg16_bn().state_dict()
    state = {
        name: torch.zeros(1).expand(tensor.shape)
        if name.startswith("classifier.")
        else (draw(*tensor.shape) if tensor.is_floating_point() else torch.tensor(0))
        for name, tensor in shapes.items()
    }
    torch.save(state, cache / weights.url.rsplit("/", 1)[1])
    loaded = list(build_backbone("vgg16", 3, 32, True).state_dict().values())
    kept = [tensor for name, tensor in state.items() if name.startswith("features.")]
    assert len(loaded) == len(kept)
    assert all(torch.equal(a, b) for a, b in zip(loaded, kept, strict=True))


@pytest.mark.parametrize("name", ["vgg16", "resnet18"])
def test_weights_that_cannot_be_fetched_are_one_line(
    name: str, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
    with pytest.raises(
        InputError, match=r"could not be fetched \(no network\); put .*\.pth in "
    ) as e:
        build_model(name, 7, image_size=96, pretrained=True)
    assert str(cache) in str(e.value)
    assert "\n" not in str(e.value)


def test_timm_weights_that_cannot_be_fetched_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError("no hub\nand a long story")

    monkeypatch.setattr(timm, "create_model", refuse)
    with pytest.raises(InputError, match=r"pretrained weights \(no hub\); .*pretrained=False") as e:
        build_model("timm:resnet10t", 7, pretrained=True)
    assert "\n" not in str(e.value)


def test_weights_that_do_not_exist_are_rejected() -> None:
    with pytest.raises(InputError, match="do not exist for convnet"):
        build_model("convnet", 7, pretrained=True)
    with pytest.raises(InputError, match="pretrained resnet18 needs an image_size above 64 px"):
        build_model("resnet18", 7, image_size=64, pretrained=True)
