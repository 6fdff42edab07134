"""Two or three processes with a share of a batch each equal one process with the whole batch."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

import processes  # noqa: F401 - decides what the fork server imports
from ccloss import ClassifierHead, Output, build_model
from ccloss.functional import channel_correlation, class_distances
from ccloss.losses import ChannelCorrelationLoss
from ccloss.tensor_checks import IGNORE_INDEX

SAMPLES, CLASSES, WIDTH, STEPS = 30, 5, 24, 3

Split = Callable[[Tensor], Tensor]


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def make_labels(kind: str) -> Tensor:
    mixed = torch.randint(CLASSES, (SAMPLES,), generator=generator(1))
    if kind == "mixed":
        return mixed
    if kind == "disjoint":  # no two processes see the same class
        return torch.arange(SAMPLES) * CLASSES // SAMPLES
    if kind == "ignored":
        return torch.where(torch.arange(SAMPLES) % 7 == 0, IGNORE_INDEX, mixed)
    draws = torch.rand(SAMPLES, CLASSES, generator=generator(2), dtype=torch.float64)
    return (4 * draws).softmax(1)


LABELS = ("mixed", "disjoint", "ignored", "soft")


def whole(batch: Tensor) -> Tensor:
    return batch


def share(batch: Tensor) -> Tensor:
    """An equal share for each process."""
    return batch.chunk(dist.get_world_size())[dist.get_rank()]


def uneven(batch: Tensor) -> Tensor:
    """18 and 12 samples, or 18, 11 and 1: the cuts follow the disjoint classes."""
    cuts = [18, 12] if dist.get_world_size() == 2 else [18, 11, 1]
    return batch.split(cuts)[dist.get_rank()]


def train(
    model: nn.Module, batch: Tensor, labels: Tensor, split: Split, learning_rate: float = 0.2
) -> dict[str, Any]:
    """Three steps of SGD: every term of every step, and the parameters at the end."""
    loss = ChannelCorrelationLoss(weight=5.0, reduction="mean")
    optimizer = torch.optim.SGD(model.parameters(), lr=learning_rate, momentum=0.9)
    images, labels = split(batch), split(labels)
    terms = []
    for _ in range(STEPS):
        optimizer.zero_grad()
        found = loss.terms(model(images), labels)
        found["total"].backward()
        optimizer.step()
        terms.append({name: term.detach() for name, term in found.items()})
    plain = model.module if isinstance(model, DistributedDataParallel) else model
    return {"terms": terms, "parameters": [p.detach() for p in plain.parameters()]}


def train_head(labels: str, split: Split, wrap: Callable[[nn.Module], nn.Module]) -> dict[str, Any]:
    torch.manual_seed(0)
    head = ClassifierHead(WIDTH, 16, CLASSES, reduction=4, head_norm="none").double()
    vectors = torch.rand(SAMPLES, WIDTH, generator=generator(0), dtype=torch.float64)
    return train(wrap(head), vectors, make_labels(labels), split)


def train_convnet(split: Split, wrap: Callable[[nn.Module], nn.Module]) -> dict[str, Any]:
    """With frozen statistics: SyncBatchNorm, which would join them, does not train on the CPU."""
    torch.manual_seed(0)
    model = build_model(
        "convnet", CLASSES, in_channels=1, image_size=8, hidden_features=16, head_norm="none"
    )
    model.double().backbone.eval()
    images = torch.rand(SAMPLES, 1, 8, 8, generator=generator(0), dtype=torch.float64)
    # At 0.2 this network without batch normalization diverges and its attention collapses.
    return train(wrap(model), images, make_labels("mixed"), split, learning_rate=0.02)


def measure(labels: str, reduction: Any, split: Split, group: Any) -> dict[str, Tensor]:
    """Distances, and the gradients of both."""
    vectors = torch.rand(SAMPLES, WIDTH, generator=generator(3), dtype=torch.float64)
    mine = split(vectors).requires_grad_()
    intra, inter = class_distances(
        mine, split(make_labels(labels)), reduction, num_classes=CLASSES, process_group=group
    )
    (of_intra,) = torch.autograd.grad(intra, mine, retain_graph=True)
    (of_inter,) = torch.autograd.grad(inter, mine)
    return {
        "intra": intra.detach(),
        "inter": inter.detach(),
        "of_intra": of_intra,
        "of_inter": of_inter,
    }


def evaluate(split: Split, training: bool) -> Tensor:
    torch.manual_seed(0)
    head = ClassifierHead(WIDTH, 16, CLASSES, reduction=4, head_norm="none").double()
    vectors = torch.rand(SAMPLES, WIDTH, generator=generator(0), dtype=torch.float64)
    loss = ChannelCorrelationLoss().train(training)
    return loss.terms(head(split(vectors)), split(make_labels("mixed")))["ratio"].detach()


def evaluate_loss(split: Split, **options: Any) -> Tensor:
    """The loss of a joined batch in training mode, by its ratio."""
    vectors = torch.rand(SAMPLES, WIDTH, generator=generator(0), dtype=torch.float64)
    logits = torch.zeros(SAMPLES, CLASSES, dtype=torch.float64)
    output = Output(split(logits), attention=split(vectors))
    return ChannelCorrelationLoss(**options).terms(output, split(make_labels("mixed")))["ratio"]


def second_derivative(split: Split, group: Any) -> Tensor:
    """d |d ratio / d vectors|^2 / d vectors of this process's vectors."""
    vectors = split(torch.rand(SAMPLES, 3, generator=generator(0), dtype=torch.float64))
    vectors.requires_grad_()
    labels = split(make_labels("mixed"))
    ratio = channel_correlation(vectors, labels, num_classes=CLASSES, process_group=group)
    (first,) = torch.autograd.grad(ratio, vectors, create_graph=True)
    squared = first.square().sum()
    if group is not None:  # the norm of the whole gradient, on every process
        total = squared.detach().clone()
        dist.all_reduce(total)
        squared = squared + (total - squared.detach())
    (second,) = torch.autograd.grad(squared, vectors)
    return second


def work(rank: int, world: int, folder: str) -> None:
    """Everything that the processes compute, in one start of them."""
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=world
    )
    found: dict[Any, Any] = {}
    for labels in LABELS:
        if labels != "ignored":  # their number differs between processes, so does the mean of CE
            found["head", labels] = train_head(labels, share, DistributedDataParallel)
        for reduction in ("sum", "mean"):
            found["uneven", labels, reduction] = measure(
                labels, reduction, uneven, dist.group.WORLD
            )
    found["convnet"] = train_convnet(share, DistributedDataParallel)
    found["eval"] = evaluate(share, training=False)
    found["train"] = evaluate(share, training=True)
    found["default group"] = evaluate_loss(share).detach()
    found["given group"] = evaluate_loss(share, process_group=dist.group.WORLD).detach()
    found["no group"] = evaluate_loss(share, process_group=None).detach()
    found["second"] = second_derivative(uneven, dist.group.WORLD)
    torch.save(found, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.fixture(scope="module", params=[2, 3])
def ranks(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> list[dict[Any, Any]]:
    folder: Path = tmp_path_factory.mktemp("ranks")
    torch.multiprocessing.start_processes(
        work,
        (request.param, str(folder)),
        nprocs=request.param,
        start_method="forkserver",
    )
    return [torch.load(folder / f"{rank}.pt") for rank in range(request.param)]


def compare(one: dict[str, Any], ranks: list[dict[str, Any]]) -> None:
    for step, terms in enumerate(one["terms"]):
        for name in ("ratio", "intra", "inter"):
            for rank in ranks:
                torch.testing.assert_close(
                    rank["terms"][step][name], terms[name], rtol=1e-9, atol=0
                )
        for name in ("ce", "total"):
            mean = sum(rank["terms"][step][name] for rank in ranks) / len(ranks)
            torch.testing.assert_close(mean, terms[name], rtol=1e-9, atol=0)
    for rank in ranks:
        torch.testing.assert_close(rank["parameters"], one["parameters"], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("labels", ["mixed", "disjoint", "soft"])
def test_head_is_trained_as_in_one_process(ranks: list[dict[Any, Any]], labels: str) -> None:
    one = train_head(labels, whole, whole)  # type: ignore[arg-type]
    assert one["terms"][-1]["total"] < one["terms"][0]["total"]
    compare(one, [rank["head", labels] for rank in ranks])


def test_convnet_is_trained_as_in_one_process(ranks: list[dict[Any, Any]]) -> None:
    one = train_convnet(whole, whole)  # type: ignore[arg-type]
    compare(one, [rank["convnet"] for rank in ranks])


@pytest.mark.parametrize("reduction", ["sum", "mean"])
@pytest.mark.parametrize("labels", LABELS)
def test_batches_of_different_sizes_are_one_batch(
    ranks: list[dict[Any, Any]], labels: str, reduction: str
) -> None:
    one = measure(labels, reduction, whole, None)
    found = [rank["uneven", labels, reduction] for rank in ranks]
    for name in ("intra", "inter"):
        for rank in found:
            torch.testing.assert_close(rank[name], one[name], rtol=1e-12, atol=0)
    for name in ("of_intra", "of_inter"):
        joined = torch.cat([rank[name] for rank in found])
        torch.testing.assert_close(joined, len(ranks) * one[name], rtol=1e-9, atol=1e-12)


def test_processes_join_their_batches_in_training_mode_only(
    ranks: list[dict[Any, Any]],
) -> None:
    joined = evaluate(whole, training=True)
    for number, rank in enumerate(ranks):
        own = evaluate(lambda batch, n=number: batch.chunk(len(ranks))[n], training=False)
        torch.testing.assert_close(rank["train"], joined)
        torch.testing.assert_close(rank["eval"], own)
        assert abs(own - joined) > 0.01 * joined


def test_process_group_of_the_loss(ranks: list[dict[Any, Any]]) -> None:
    joined = evaluate_loss(whole)
    for number, rank in enumerate(ranks):
        own = evaluate_loss(lambda batch, n=number: batch.chunk(len(ranks))[n])
        torch.testing.assert_close(rank["default group"], joined)
        torch.testing.assert_close(rank["given group"], joined)
        torch.testing.assert_close(rank["no group"], own)


def test_second_derivative_over_processes(ranks: list[dict[Any, Any]]) -> None:
    # Each process scales the gradient by the number of processes, so its square by the square,
    # and the second backward pass by the number once more.
    one = second_derivative(whole, None)
    joined = torch.cat([rank["second"] for rank in ranks])
    torch.testing.assert_close(joined, len(ranks) ** 3 * one / len(ranks), rtol=1e-9, atol=1e-9)
