"""What may be compared, and what the refusal says."""

from dataclasses import replace

import pytest

from ccloss.bench.report.protocol import rounds_by_method, settings
from ccloss.errors import InputError


def test_methods_in_the_order_met_and_rounds_by_seed(record):
    records = [record("cc", 2), record("ce", 1), record("cc", 1)]
    grouped = rounds_by_method(records)
    assert list(grouped) == ["cc", "ce"]
    assert [each.seed for each in grouped["cc"]] == [1, 2]


def test_methods_may_differ_in_loss_options_and_attention(record):
    records = [record("ce"), record("ce+cam"), record("cc", loss_options={"weight": 2.0})]
    assert len(rounds_by_method(records)) == 3


@pytest.mark.parametrize(
    ("field", "value", "shown"),
    [
        ("epochs", 5, "runs differ in epochs: 3 in ce seed 1, 5 in cc seed 2; report them apart"),
        ("data", "mnist", "runs differ in data: digits in ce seed 1, mnist in cc seed 2"),
        ("split", "validation", "runs differ in evaluation split: test in ce seed 1, validation"),
        ("images", 7, "runs differ in evaluation images: 500 in ce seed 1, 7 in cc seed 2"),
        ("warmup", 1, "runs differ in warmup: absent in ce seed 1, 1 in cc seed 2"),
        ("classes", ["a"], "runs differ in classes: "),
    ],
)
def test_refuses_another_protocol(record, field, value, shown):
    with pytest.raises(InputError) as raised:
        rounds_by_method([record("ce", 1), record("cc", 2, **{field: value})])
    assert str(raised.value).startswith(shown)
    assert "\n" not in str(raised.value)


def test_refuses_a_field_that_is_missing(record):
    other = record("cc")
    del other.experiment["epochs"]
    with pytest.raises(InputError, match="epochs: 3 in ce seed 1, absent in cc seed 1"):
        rounds_by_method([record("ce"), other])


def test_refuses_rounds_of_one_name_with_different_options(record):
    records = [record("cc", 1), record("cc", 2, loss_options={"weight": 9.0})]
    with pytest.raises(InputError, match=r"loss_options: \{\} in cc seed 1, \{'weight': 9.0\}"):
        rounds_by_method(records)


def test_refuses_a_seed_twice(record):
    with pytest.raises(InputError, match="method cc has two runs with seed 4"):
        rounds_by_method([record("cc", 4), record("ce", 4), record("cc", 4)])


def test_refuses_nothing():
    with pytest.raises(InputError, match="no finished run"):
        rounds_by_method([])


def test_device_may_differ(record):
    other = replace(record("cc"), provenance={"device": "cuda"})
    assert len(rounds_by_method([record("ce"), other])) == 2


def test_settings_part_what_may_not_stand_in_one_table(record):
    records = [
        record("cc", 1),
        record("cc", 1, batch_size=64),
        record("ce", 1),
        record("ce", 1, data="mnist"),
        record("ce", 2, split="validation"),
    ]
    found = settings(records)
    assert [len(setting.records) for setting in found] == [2, 1, 1, 1]
    assert list(found[0].rounds) == ["ce", "cc"]  # cross-entropy first
    assert [setting.title for setting in found] == [
        "digits · convnet · batch size 32 · evaluation split test",
        "digits · convnet · batch size 64 · evaluation split test",
        "mnist · convnet",
        "digits · convnet · batch size 32 · evaluation split validation",
    ]


def test_a_setting_alone_needs_no_more_than_data_and_backbone(record):
    (setting,) = settings([record("cc", 1), record("cc", 2)])
    assert (setting.title, setting.left_out) == ("digits · convnet", ())


def test_what_cannot_stand_beside_the_others_is_left_out_and_told(record):
    first, again = record("cc", 1, 90.0), record("cc", 1, 10.0)
    other = record("cc", 2, loss_options={"weight": 9.0})
    (setting,) = settings([first, again, other])
    assert setting.records == (first,)
    assert setting.left_out == (
        "cc, seed 1: a second run of this seed",
        "cc, seed 2: other options under one name",
    )


def test_no_records_make_no_settings():
    assert settings([]) == []
