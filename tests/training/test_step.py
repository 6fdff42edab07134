"""One training step."""

import itertools

import pytest
import torch
from safetensors.torch import load_file

from ccloss.data.images import statistics
from ccloss.data.loader import train_loader
from ccloss.losses import make_loss
from ccloss.models import build_model
from ccloss.training.devices import make_accelerator
from ccloss.training.loop import train
from ccloss.training.records import RunFolder
from ccloss.training.schedules import cosine_learning_rate
from ccloss.training.step import TrainState, accumulation, epoch_seed, train_step
from small_runs import small_config, small_data

DATA = small_data()


@pytest.mark.parametrize("loss", ["ce", "ce+cam", "cc"])
def test_weights_are_those_of_a_bare_loop(folder: RunFolder, loss: str) -> None:
    config = small_config(loss=loss, epochs=2)
    train(config, folder, DATA)

    torch.manual_seed(config.seed)
    model = build_model("convnet", 10, 1, 8, 16, attention=loss != "ce")
    model.set_pixel_statistics(*statistics(DATA.train))
    model.train().to(memory_format=torch.channels_last)
    criterion = make_loss(config.loss)
    optimizer = torch.optim.SGD(
        model.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4, fused=True
    )
    loader = train_loader(
        DATA.train, batch_size=32, seed=0, device="cpu", image_size=8, padding=1, flip=0.0
    )
    batches = itertools.chain(loader.epoch(0), loader.epoch(1))
    for step, (_, images, labels) in enumerate(batches):
        for group in optimizer.param_groups:
            group["lr"] = cosine_learning_rate(step, 8, 0.1, 1e-5)
        optimizer.zero_grad()
        pixels = images.to(memory_format=torch.channels_last).float() / 255
        criterion(model(pixels), labels).backward()
        optimizer.step()

    trained = load_file(folder.model)
    for name, value in model.state_dict().items():
        assert torch.equal(trained[name], value), name


def take_step(clip_grad_norm: float = 0.0, parts: int = 1) -> tuple[float, list[torch.Tensor]]:
    """Norm of the gradient of four images, and the change of every parameter at learning rate 1."""
    torch.manual_seed(0)
    network = build_model("convnet", 10, 1, 8, 16, attention=False, head_norm="none")
    model, loss = network.eval(), make_loss("ce")  # batch statistics would differ between parts
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    before = [parameter.detach().clone() for parameter in model.parameters()]
    images = torch.randint(0, 256, (4, 1, 8, 8), dtype=torch.uint8)
    state = TrainState(model, loss, optimizer, make_accelerator("fp32"))
    labels = torch.arange(4)
    for part in range(parts):
        own = slice(4 * part // parts, 4 * (part + 1) // parts)
        train_step(
            state,
            images[own],
            labels[own],
            learning_rate=1.0,
            clip_grad_norm=clip_grad_norm,
            part=part,
            parts=parts,
        )
    changes = [old - new.detach() for old, new in zip(before, model.parameters(), strict=True)]
    return float(torch.stack([change.norm() for change in changes]).norm()), changes


def test_gradients_are_clipped_by_their_total_norm() -> None:
    norm, changes = take_step(None)
    assert norm > 0.1
    clipped_norm, clipped = take_step(0.1)
    assert clipped_norm == pytest.approx(0.1, rel=1e-3)
    for change, small in zip(changes, clipped, strict=True):
        torch.testing.assert_close(small, change * 0.1 / norm, rtol=1e-3, atol=1e-6)
    assert take_step(2 * norm)[0] == pytest.approx(norm, rel=1e-3)


def test_parts_make_the_step_of_the_whole_batch() -> None:
    for change, expected in zip(take_step(parts=2)[1], take_step()[1], strict=True):
        torch.testing.assert_close(change, expected, rtol=1e-4, atol=1e-6)


def test_last_batches_of_an_epoch_are_a_step_of_their_own() -> None:
    found = [accumulation(index, 5, 2) for index in range(5)]
    assert found == [(0, 2), (1, 2), (0, 2), (1, 2), (0, 1)]


def test_seeds_differ_by_run_epoch_and_process() -> None:
    seeds = {
        epoch_seed(seed, epoch, rank) % 2**32  # what the generator of the CPU uses
        for seed, epoch, rank in itertools.product((0, 1, 2**31 - 1), range(300), range(8))
    }
    assert len(seeds) == 3 * 300 * 8
    for rank in range(8):
        torch.manual_seed(epoch_seed(0, 0, rank))
