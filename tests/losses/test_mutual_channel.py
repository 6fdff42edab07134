"""MC loss against a loop over samples, classes and positions."""

import pytest
import torch

import reference
from ccloss.errors import InputError
from ccloss.losses import MutualChannelLoss
from ccloss.losses.mutual_channel import _groups, _mask
from outputs import CLASSES, HARD, LABELS, gradients, hard_labels, make_output, soft_labels


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize("kind", LABELS)
def test_mc_equals_its_formula(kind: str, training: bool) -> None:
    """Value and gradient of random cases."""
    for case in range(25):
        gen = torch.Generator().manual_seed(case)
        samples, classes, extra, pick = (
            int(torch.randint(1, high, (), generator=gen)) for high in (4, 5, 8, 4)
        )
        channels = classes + extra
        weights = torch.rand(classes, generator=gen).tolist() if pick == 1 else None
        options = {"weights": weights, "smoothing": 0.2 * (pick == 2)}
        loss = MutualChannelLoss(class_weights=weights, label_smoothing=options["smoothing"])
        labels = (hard_labels if kind == "hard" else soft_labels)(samples, classes, case)
        output = make_output(case, torch.float64, 1.0, samples, classes, channels)
        torch.manual_seed(case)
        total = loss.train(training)(output, labels)
        mask = None
        if training:
            torch.manual_seed(case)
            blocks = _groups(channels, classes)
            mask = torch.cat([_mask(n, size, output.logits).flatten() for _, n, size in blocks])
        assert output.feature_map is not None
        dis, div = reference.mutual_channel(output.feature_map, labels, classes, mask, **options)
        ce = reference.softmax_loss(output.logits, labels, **options)
        expected = ce + 1.5 * dis + 20 * div
        torch.testing.assert_close(total, expected, rtol=1e-6, atol=1e-7)
        for grad, like in zip(gradients(total, output), gradients(expected, output), strict=True):
            torch.testing.assert_close(grad, like, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize(
    ("channels", "classes", "groups"),
    [
        (512, 10, {51: 8, 52: 2}),
        (512, 100, {5: 88, 6: 12}),
        (512, 196, {2: 76, 3: 120}),
        (6, 6, {1: 6}),
        (7, 1, {7: 1}),
    ],
)
def test_channels_are_assigned_with_the_smaller_groups_first(
    channels: int, classes: int, groups: dict[int, int]
) -> None:
    blocks = list(_groups(channels, classes))
    assert {size: number for _, number, size in blocks} == groups
    ends = [first + number * size for first, number, size in blocks]
    assert [first for first, _, _ in blocks] == [0, *ends[:-1]]
    assert ends[-1] == channels


@pytest.mark.parametrize(("size", "kept"), [(1, 1), (2, 2), (3, 2), (5, 4), (6, 4), (51, 34)])
def test_mask_keeps_two_thirds_of_each_group_at_random(size: int, kept: int) -> None:
    torch.manual_seed(0)
    masks = torch.stack([_mask(4, size, torch.zeros(1))[..., 0] for _ in range(200)])
    assert (masks.sum(2) == kept).all()
    assert set(masks.unique().tolist()) <= {0.0, 1.0}
    frequency = masks.mean(0)
    assert (frequency - kept / size).abs().max() < 0.15


def test_the_mask_follows_torchs_seed_and_is_drawn_in_training_only() -> None:
    output, loss = make_output(channels=40), MutualChannelLoss()

    def totals(seed: int) -> list[float]:
        torch.manual_seed(seed)
        return [loss(output, HARD).item() for _ in range(3)]

    first = totals(0)
    assert len(set(first)) == 3
    assert totals(0) == first
    assert totals(1) != first
    loss.eval()
    state = torch.get_rng_state()
    assert len(set(totals(0))) == 1
    torch.manual_seed(0)
    assert len(set(totals(1))) == 1
    torch.set_rng_state(state)
    loss(output, HARD)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_diversity_of_identical_maps_is_1_minus_1_over_xi(size: int) -> None:
    maps = make_output().feature_map
    assert maps is not None
    same = maps[:, :1].detach().expand(-1, CLASSES * size, -1, -1)
    div = MutualChannelLoss().terms(make_output()._replace(feature_map=same), HARD)["div"]
    torch.testing.assert_close(div, torch.tensor(1 - 1 / size))


def test_diversity_of_maps_at_different_positions_is_0() -> None:
    maps = 1e4 * torch.eye(4).view(1, 4, 2, 2).repeat(12, CLASSES, 1, 1)
    div = MutualChannelLoss().terms(make_output()._replace(feature_map=maps), HARD)["div"]
    torch.testing.assert_close(div, torch.tensor(0.0))


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        (
            (12, 8, 1, 1),
            r"more than one position .*, got \(12, 8, 1, 1\): use larger",
        ),
        ((12, 3, 2, 2), "channel for each of 4 classes .*, got 3 channels: use a wider backbone"),
        ((12, 8, 4), r"feature_map must be \(N, C, H, W\) floating point, got \(12, 8, 4\)"),
        ((11, 8, 2, 2), r"one entry for each of 12 samples, got \(11, 8, 2, 2\)"),
    ],
)
def test_mc_rejects_unsuitable_maps(shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(InputError, match=message):
        MutualChannelLoss()(make_output()._replace(feature_map=torch.zeros(shape)), HARD)
