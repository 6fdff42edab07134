"""The complete classifier: pixels in, Output out."""

import pytest
import torch
from torch import Tensor

from ccloss import CCLoss, Classifier, build_model
from ccloss.errors import InputError


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture
def tiny() -> Classifier:
    model = build_model("convnet", 5, in_channels=3, image_size=8, hidden_features=16)
    model.set_pixel_statistics((0.1, 0.2, 0.3), (0.5, 0.6, 0.7))
    return model.eval()


def test_uint8_images_are_divided_by_255(tiny: Classifier) -> None:
    images = torch.randint(
        256, (4, 3, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    torch.testing.assert_close(tiny(images).logits, tiny(images.float() / 255).logits)


def test_compiled_model_gives_the_same_output(tiny: Classifier) -> None:
    images = draw(4, 3, 8, 8)
    torch._dynamo.reset()
    compiled = torch.compile(tiny, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(images), tiny(images))


def test_pixels_are_normalized_inside(tiny: Classifier) -> None:
    images = draw(4, 3, 8, 8)
    mean = torch.tensor([0.1, 0.2, 0.3])[:, None, None]
    std = torch.tensor([0.5, 0.6, 0.7])[:, None, None]
    _, features = tiny.backbone((images - mean) / std)
    torch.testing.assert_close(tiny(images).logits, tiny.head(features).logits)


def test_state_dict_contains_the_pixel_statistics(tiny: Classifier) -> None:
    other = build_model("convnet", 5, in_channels=3, image_size=8, hidden_features=16).eval()
    other.load_state_dict(tiny.state_dict())
    images = draw(4, 3, 8, 8)
    for ours, theirs in zip(tiny(images), other(images), strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("shape", [(4, 1, 8, 8), (3, 8, 8)])
def test_images_of_another_shape_are_rejected(tiny: Classifier, shape: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match=r"images must be \(N, 3, H, W\), got"):
        tiny(draw(*shape))


def test_pixel_statistics_out_of_range_are_rejected(tiny: Classifier) -> None:
    with pytest.raises(InputError, match="must have 3 values, one a channel, got 1 and 3"):
        tiny.set_pixel_statistics((0.5,), (0.5, 0.5, 0.5))
    with pytest.raises(InputError, match="std must be positive in every channel"):
        tiny.set_pixel_statistics((0.5,) * 3, (0.5, 0.0, 0.5))


def test_new_model_is_in_training_mode_with_fresh_statistics() -> None:
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
