"""attach: a head with channel attention for models of torchvision, timm and others."""

import copy
from pathlib import Path

import pytest
import timm
import torch
import torchvision
from torch import nn
from torch.distributed.device_mesh import init_device_mesh

import ccloss
from ccloss import CCLoss, ClassifierHead, attach
from ccloss.errors import InputError
from versions import TORCH

TIMM = {
    "test_resnet": 32,
    "test_vit": 32,
    "test_efficientnet": 32,
    "test_convnext": 32,
    "test_byobnet": 32,
    "resnet10t": 32,
    "seresnet18": 32,
    "legacy_seresnet18": 32,
    "mobilenetv2_035": 32,
    "mobilenetv3_small_050": 32,
    "lcnet_035": 32,
    "tinynet_e": 32,
    "efficientnet_lite0": 32,
    "mnasnet_small": 32,
    "ghostnet_050": 32,
    "regnetx_002": 32,
    "regnety_002": 32,
    "ese_vovnet19b_slim_dw": 32,
    "hardcorenas_a": 32,
    "vit_tiny_patch16_224": 32,
    "deit_tiny_distilled_patch16_224": 32,
    "levit_128s": 224,
    "convnext_atto": 32,
    "mobilevit_xxs": 64,
    "edgenext_xx_small": 32,
    "poolformer_s12": 32,
    "pit_ti_224": 64,
    "pvt_v2_b0": 32,
    "rexnet_100": 32,
    "starnet_s050": 32,
    "repghostnet_050": 32,
    "cs3darknet_focus_s": 32,
    "hrnet_w18_small": 32,
    "gmlp_ti16_224": 32,
}
"""Architectures of timm and the image size of the test."""

TORCHVISION = [
    "resnet18",
    "squeezenet1_1",
    "densenet121",
    "mobilenet_v2",
    "mobilenet_v3_small",
    "mnasnet0_5",
    "shufflenet_v2_x0_5",
    "efficientnet_b0",
    "regnet_y_400mf",
    "convnext_tiny",
]


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def timm_model(name: str, size: int) -> nn.Module:
    config = timm.get_pretrained_cfg(name)
    options = {"img_size": size} if config.fixed_input_size else {}
    model: nn.Module = timm.create_model(name, num_classes=7, **options)
    return model


def check(model: nn.Module, size: int) -> None:
    """One forward and backward pass; weights are kept, except those of the classifier."""
    before = {name: value.clone() for name, value in model.state_dict().items()}
    attached = attach(model, hidden_features=8)
    after = attached.model.state_dict()
    removed = {name for name in before if name not in after}
    assert 1 <= len(removed) <= 4
    assert all(torch.equal(after[name], before[name]) for name in after)
    output = attached(torch.rand(2, 3, size, size))
    assert output.logits.shape == (2, 7)
    assert output.features.shape == output.attention.shape == (2, 8)
    CCLoss()(output, torch.tensor([0, 1])).backward()
    assert all(parameter.grad is not None for parameter in attached.parameters())


@pytest.mark.parametrize("name", TIMM)
def test_attach_to_models_of_timm(name: str) -> None:
    check(timm_model(name, TIMM[name]), TIMM[name])


@pytest.mark.filterwarnings("ignore:.*weight initialization:FutureWarning")
@pytest.mark.parametrize("name", TORCHVISION)
def test_attach_to_models_of_torchvision(name: str) -> None:
    check(getattr(torchvision.models, name)(num_classes=7), 32)


VIT = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 16,
    "image_size": 32,
    "patch_size": 8,
}
MAPS = {"hidden_sizes": [8, 16], "depths": [1, 1]}

TRANSFORMERS = {
    "ViT": VIT,
    "Beit": VIT,
    "Dinov2": {**VIT, "use_mask_token": False},
    "ResNet": {"embedding_size": 8, "layer_type": "basic", **MAPS},
    "RegNet": {"embedding_size": 8, "groups_width": 8, **MAPS},
    "ConvNext": {"num_stages": 2, **MAPS},
    "MobileNetV2": {"depth_multiplier": 0.25},
}
"""Image classifiers of transformers, and the configuration of a small one."""


def transformers_model(name: str, suffix: str = "", **config: object) -> nn.Module:
    transformers = pytest.importorskip("transformers")
    settings = getattr(transformers, f"{name}Config")(num_labels=7, **config)
    model: nn.Module = getattr(transformers, f"{name}ForImageClassification{suffix}")(settings)
    return model.train()


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_attach_to_models_of_transformers(name: str) -> None:
    check(transformers_model(name, **TRANSFORMERS[name]), 32)


def test_both_classifiers_of_a_distilled_model_are_replaced() -> None:
    model = transformers_model("DeiT", "WithTeacher", **VIT).eval()
    images = torch.rand(2, 3, 32, 32)
    tokens = model.deit(images).last_hidden_state
    attached = attach(model, hidden_features=8)
    expected = attached.head((tokens[:, 0] + tokens[:, 1]) / 2).logits
    torch.testing.assert_close(attached(pixel_values=images).logits, expected)


def test_several_classifiers_by_name() -> None:
    model = transformers_model("DeiT", "WithTeacher", **VIT)
    attach(model, classifier=["cls_classifier", "distillation_classifier"])
    assert isinstance(model.cls_classifier, nn.Identity)
    assert isinstance(model.distillation_classifier, nn.Identity)
    with pytest.raises(InputError, match="classifier must name at least one layer"):
        attach(small(), classifier=[])


def small() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(192, 16), nn.ReLU(), nn.Linear(16, 5))


IMAGES = torch.rand(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
LABELS = torch.arange(4) % 2


def test_output_is_that_of_the_head_on_the_models_features() -> None:
    model = small()
    features = model[:3](IMAGES)
    attached = attach(model, num_classes=3, hidden_features=8, attention=False, head_norm="none")
    head = ClassifierHead(16, 8, 3, attention=False, head_norm="none")
    head.load_state_dict(attached.head.state_dict())
    output = attached(IMAGES)
    assert output.attention is None
    for value, expected in zip(output, head(features), strict=True):
        assert (value is None and expected is None) or torch.equal(value, expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"classifier": "4"}, "classifier must name a layer of Sequential, got '4'"),
        ({"classifier": "2"}, r"layer '2' \(ReLU\) contains no linear layer"),
        ({"num_classes": 0}, "num_classes must be an integer of at least 1, got 0"),
        ({"hidden_features": 0}, "hidden_features must be an integer of at least 1, got 0"),
    ],
)
def test_attach_rejects_arguments_out_of_range(options: dict[str, object], message: str) -> None:
    model = small()
    with pytest.raises(InputError, match=message):
        attach(model, **options)
    assert isinstance(model[3], nn.Linear)


def test_unknown_layer_gets_the_nearest_name_as_a_suggestion() -> None:
    with pytest.raises(InputError, match=r"got 'vit.encodr'; did you mean 'vit"):
        attach(transformers_model("ViT", **VIT), classifier="vit.encodr")


def test_wrong_features_are_reported() -> None:
    attached = attach(small(), classifier="3")
    attached.model.forward = lambda images: (images,)
    with pytest.raises(InputError, match=r"model must give features \(N, 16\) .*got tuple: pass"):
        attached(IMAGES)


def test_frozen_weights_stay_frozen_and_the_head_learns() -> None:
    model = small().requires_grad_(False)
    attached = attach(model, hidden_features=8)
    trained = {name for name, p in attached.named_parameters() if p.requires_grad}
    assert trained == {f"head.{name}" for name, _ in attached.head.named_parameters()}
    optimizer = torch.optim.SGD([p for p in attached.parameters() if p.requires_grad], lr=0.1)
    losses = []
    for _ in range(20):
        optimizer.zero_grad()
        loss = CCLoss()(attached(IMAGES), LABELS)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]


def test_copies_averages_and_states_give_the_same_output() -> None:
    attached = attach(small(), hidden_features=8)
    attached(IMAGES)
    attached.eval()
    average = torch.optim.swa_utils.AveragedModel(attached)
    average.update_parameters(attached)
    other = attach(small(), hidden_features=8).eval()
    other.load_state_dict(attached.state_dict())
    expected = attached(IMAGES).logits
    for module in (copy.deepcopy(attached), average, other):
        assert torch.equal(module(IMAGES).logits, expected)


def test_attach_keeps_device_type_and_mode() -> None:
    attached = attach(small().double().eval(), hidden_features=8)
    assert attached(IMAGES.double()).logits.dtype == torch.float64
    assert not any(module.training for module in attached.modules())


def test_compiled_model_gives_the_same_output() -> None:
    attached = attach(small(), hidden_features=8).eval()
    torch._dynamo.reset()
    compiled = torch.compile(attached, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(IMAGES).logits, attached(IMAGES).logits)


@pytest.fixture
def process_group(tmp_path: Path) -> None:
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1
    )
    yield
    torch.distributed.destroy_process_group()


@pytest.mark.usefixtures("process_group")
def test_attached_and_tapped_model_trains_under_ddp() -> None:
    attached = attach(small(), hidden_features=8)
    taps = ccloss.tap(attached)
    ddp = nn.parallel.DistributedDataParallel(attached)
    for _ in range(2):
        output = ddp(IMAGES)
        assert taps.attention is output.attention
        CCLoss()(output, LABELS).backward()
    assert all(parameter.grad is not None for parameter in ddp.parameters())


@pytest.mark.usefixtures("process_group")
@pytest.mark.skipif(TORCH < (2, 6), reason="fully_shard is public from PyTorch 2.6 on")
def test_attached_model_trains_under_fsdp() -> None:
    from torch.distributed.fsdp import fully_shard
    from torch.distributed.tensor import DTensor

    attached = attach(small(), hidden_features=8)
    expected = copy.deepcopy(attached)
    for module in (attached.model, attached.head, attached):
        fully_shard(module, mesh=init_device_mesh("cpu", (1,)))
    for model in (attached, expected):
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for _ in range(2):
            optimizer.zero_grad()
            CCLoss()(model(IMAGES), LABELS).backward()
            optimizer.step()
    for name, value in attached.state_dict().items():
        full = value.full_tensor() if isinstance(value, DTensor) else value
        torch.testing.assert_close(full, expected.state_dict()[name])
