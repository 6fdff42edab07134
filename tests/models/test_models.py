"""The networks: the paper's head, backbones of torchvision and timm, pixels in, Output out."""

import math
from pathlib import Path

import pytest
import timm
import torch
import torchvision
from timm.layers import SEModule
from torch import Tensor, nn
from torchvision.models import vgg16_bn

from ccloss import CCLoss, ChannelAttention, Classifier, ClassifierHead, build_model
from ccloss.errors import InputError
from ccloss.models.backbones import IMAGENET_STATISTICS, build_backbone


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


# --- channel attention


def test_attention_is_its_formula() -> None:
    module, features = ChannelAttention(32, 8, reduction=4), draw(5, 32, 3, 3)
    squeezed = features.sum((2, 3)) / 9
    hidden = torch.clamp(squeezed @ module.reduce.weight.T, min=0)
    expected = 1 / (1 + torch.exp(-(hidden @ module.expand.weight.T)))
    torch.testing.assert_close(module(features), expected)


def test_attention_is_the_gate_of_timms_se_module() -> None:
    features = draw(5, 32, 3, 3)
    ours = ChannelAttention(32, 32, reduction=4)
    theirs = SEModule(32, rd_channels=8, bias=False)
    with torch.no_grad():
        theirs.fc1.weight.copy_(ours.reduce.weight[:, :, None, None])
        theirs.fc2.weight.copy_(ours.expand.weight[:, :, None, None])
    gated = features * ours(features)[:, :, None, None]
    torch.testing.assert_close(gated, theirs(features))


def test_attention_takes_vectors_as_they_are() -> None:
    module, vectors = ChannelAttention(32, 8), draw(5, 32)
    torch.testing.assert_close(module(vectors), module(vectors[:, :, None, None]))


@pytest.mark.parametrize(("width", "units"), [(512, 32), (40, 2), (8, 1)])
def test_bottleneck_is_reduced_but_never_empty(width: int, units: int) -> None:
    assert ChannelAttention(width, 16).reduce.out_features == units


def test_attention_is_float32_under_autocast() -> None:
    module, features = ChannelAttention(32, 8), draw(5, 32, 3, 3).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        attention = module(features)
    assert attention.dtype == torch.float32
    squeezed = features.mean((2, 3)).float()
    assert torch.equal(attention, module(squeezed))


@pytest.mark.parametrize("argument", ["in_features", "channels", "reduction"])
def test_attention_refuses_sizes_below_one(argument: str) -> None:
    sizes = {"in_features": 8, "channels": 8, "reduction": 2, argument: 0}
    with pytest.raises(InputError, match=f"{argument} must be 1 or more, got 0"):
        ChannelAttention(**sizes)


# --- head


def test_head_weights_its_hidden_layer_by_attention() -> None:
    head, features = ClassifierHead(32, 8, 4), draw(5, 32, 3, 3)
    vectors = features.mean((2, 3))
    hidden = vectors @ head.hidden.weight.T + head.hidden.bias
    assert head.attention is not None
    attention = head.attention(vectors)
    output = head(features)
    expected = torch.clamp(hidden * attention, min=0)
    torch.testing.assert_close(output.features, expected)
    torch.testing.assert_close(output.attention, attention)
    logits = expected @ head.classify.weight.T + head.classify.bias
    torch.testing.assert_close(output.logits, logits)
    assert output.classifier_weight is head.classify.weight


def test_head_without_attention_is_a_plain_hidden_layer() -> None:
    head, vectors = ClassifierHead(32, 8, 4, attention=False), draw(5, 32)
    output = head(vectors)
    expected = torch.clamp(vectors @ head.hidden.weight.T + head.hidden.bias, min=0)
    torch.testing.assert_close(output.features, expected)
    assert output.attention is None
    assert output.feature_map is None


def test_heads_with_and_without_attention_differ_in_it_alone() -> None:
    names = set(ClassifierHead(32, 8, 4).state_dict())
    plain = set(ClassifierHead(32, 8, 4, attention=False).state_dict())
    assert names - plain == {"attention.reduce.weight", "attention.expand.weight"}
    assert plain <= names


def test_head_refuses_features_of_another_shape() -> None:
    with pytest.raises(InputError, match=r"features must be a map .* got \(5, 32, 3\)"):
        ClassifierHead(32, 8, 4)(draw(5, 32, 3))


# --- backbones


@pytest.mark.parametrize(
    ("backbone", "size", "channels", "map_shape"),
    [
        ("vgg16", 24, 1, (512, 2, 2)),
        ("vgg16", 32, 3, (512, 2, 2)),
        ("vgg16", 224, 3, (512, 14, 14)),
        ("resnet18", 32, 3, (512, 4, 4)),
        ("resnet18", 96, 3, (512, 3, 3)),
        ("convnet", 8, 1, (128, 2, 2)),
        ("timm:resnet10t", 32, 3, (512, 1, 1)),
        ("timm:vit_tiny_patch16_224", 32, 3, None),
        ("timm:swin_tiny_patch4_window7_224", 32, 3, (768, 1, 1)),
    ],
)
def test_every_backbone_makes_an_output(
    backbone: str, size: int, channels: int, map_shape: tuple[int, ...] | None
) -> None:
    model = build_model(backbone, 7, channels, size, hidden_features=16).eval()
    with torch.no_grad():
        output = model(draw(1, channels, size, size))
    assert output.logits.shape == (1, 7)
    assert output.features.shape == output.attention.shape == (1, 16)
    assert (None if output.feature_map is None else output.feature_map.shape[1:]) == map_shape
    assert torch.isfinite(output.logits).all()


def test_map_of_a_channels_last_model_is_turned_round() -> None:
    backbone = build_backbone("timm:swin_tiny_patch4_window7_224", 3, 64, False).eval()
    with torch.no_grad():
        feature_map, vectors = backbone(draw(1, 3, 64, 64))
    assert feature_map is not None
    assert feature_map.shape == (1, 768, 2, 2)
    # What the model pools is the map, channel by channel.
    torch.testing.assert_close(feature_map.mean((2, 3)), vectors, rtol=1e-4, atol=1e-5)


def test_vgg16_ends_in_the_map_before_torchvision_s_last_pool() -> None:
    backbone = build_backbone("vgg16", 3, 32, False).eval()
    theirs = vgg16_bn().eval()
    theirs.features.load_state_dict(
        {key.removeprefix("layers."): value for key, value in backbone.state_dict().items()}
    )
    images = draw(1, 3, 32, 32)
    with torch.no_grad():
        feature_map, features = backbone(images)
        expected = theirs.features(images)
    assert feature_map is not None
    assert feature_map.shape == (1, 512, 2, 2)
    assert torch.equal(feature_map, features)
    torch.testing.assert_close(nn.functional.max_pool2d(feature_map, 2), expected)


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


def test_linear_layers_start_as_he_et_al() -> None:
    head = ClassifierHead(256, 512, 100)
    assert abs(head.hidden.weight.std() / math.sqrt(2 / 256) - 1) < 0.02
    assert not head.hidden.bias.any()


def test_unknown_backbone_is_answered_with_the_nearest_name() -> None:
    with pytest.raises(InputError, match=r"vgg16, resnet18.*got 'vgg61'; did you mean 'vgg16'"):
        build_model("vgg61", 10)
    with pytest.raises(InputError, match=r"timm:resnet10x is not a model of timm.*did you mean"):
        build_model("timm:resnet10x", 10)


def test_size_that_a_timm_model_does_not_take_is_one_line() -> None:
    with pytest.raises(InputError, match=r"does not take images of 8 px") as raised:
        build_model("timm:vit_tiny_patch16_224", 10, image_size=8)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("argument", ["num_classes", "in_channels", "image_size"])
def test_build_model_refuses_sizes_below_one(argument: str) -> None:
    sizes = {"num_classes": 10, "in_channels": 3, "image_size": 32, argument: 0}
    with pytest.raises(InputError, match=f"{argument} must be 1 or more, got 0"):
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


def test_pretrained_resnet18_is_loaded(resnet_weights: dict[str, Tensor]) -> None:
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
def test_gray_in_any_number_of_channels_gets_the_answer_of_its_rgb_copy(
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


def test_pretrained_vgg16_is_loaded(cache: Path) -> None:
    # vgg16_bn's own layers 0..43; its classifier, 500 MB, is left at one value that costs no space.
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


def test_weights_that_do_not_exist_are_refused() -> None:
    with pytest.raises(InputError, match="do not exist for convnet"):
        build_model("convnet", 7, pretrained=True)
    with pytest.raises(InputError, match="pretrained resnet18 needs an image_size above 64 px"):
        build_model("resnet18", 7, image_size=64, pretrained=True)


# --- the whole classifier


@pytest.fixture
def tiny() -> Classifier:
    model = build_model("convnet", 5, in_channels=3, image_size=8, hidden_features=16)
    model.set_pixel_statistics((0.1, 0.2, 0.3), (0.5, 0.6, 0.7))
    return model.eval()


def test_bytes_are_read_as_shares_of_255(tiny: Classifier) -> None:
    images = torch.randint(
        256, (4, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    torch.testing.assert_close(tiny(images).logits, tiny(images.float() / 255).logits)


def test_pixels_are_normalised_inside(tiny: Classifier) -> None:
    images = draw(4, 3, 8, 8)
    mean = torch.tensor([0.1, 0.2, 0.3])[:, None, None]
    std = torch.tensor([0.5, 0.6, 0.7])[:, None, None]
    _, features = tiny.backbone((images - mean) / std)
    torch.testing.assert_close(tiny(images).logits, tiny.head(features).logits)


def test_weights_carry_their_pixel_statistics(tiny: Classifier) -> None:
    other = build_model("convnet", 5, in_channels=3, image_size=8, hidden_features=16).eval()
    other.load_state_dict(tiny.state_dict())
    images = draw(4, 3, 8, 8)
    for ours, theirs in zip(tiny(images), other(images), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("shape", [(4, 1, 8, 8), (3, 8, 8)])
def test_images_of_another_shape_are_refused(tiny: Classifier, shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=r"images must be \(N, 3, H, W\), got"):
        tiny(draw(*shape))


def test_pixel_statistics_out_of_range_are_refused(tiny: Classifier) -> None:
    with pytest.raises(InputError, match="must have 3 values, one a channel, got 1 and 3"):
        tiny.set_pixel_statistics((0.5,), (0.5, 0.5, 0.5))
    with pytest.raises(InputError, match="std must be positive in every channel"):
        tiny.set_pixel_statistics((0.5,) * 3, (0.5, 0.0, 0.5))


def test_building_a_model_leaves_it_untouched_and_training() -> None:
    model = build_model("convnet", 5, in_channels=1, image_size=8)
    assert model.training
    assert all(module.training for module in model.modules())
    steps = [t for name, t in model.state_dict().items() if name.endswith("num_batches_tracked")]
    assert steps
    assert not any(bool(step) for step in steps)


def test_vgg16_learns_one_batch_with_cc_loss() -> None:
    model = build_model("vgg16", 4, in_channels=1, image_size=24, hidden_features=64)
    images, labels = draw(4, 1, 24, 24), torch.arange(4) % 2
    loss = CCLoss()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    values = []
    for _ in range(8):
        optimizer.zero_grad()
        terms = loss.terms(model(images), labels)
        terms["total"].backward()
        optimizer.step()
        values.append({name: float(term.detach()) for name, term in terms.items()})
    assert values[-1]["ce"] < 0.5 * values[0]["ce"]
    assert values[-1]["ratio"] < 0.9 * values[0]["ratio"]
