"""Settings, columns of tables, and the families of their comparisons."""

import pytest
from finished_runs import make_record, table_record

from ccloss.bench.groups import (
    hardness_correlation,
    method_order,
    method_pairs,
    settings,
    table_columns,
    table_pairs,
)
from ccloss.bench.paper.claims import ACCURACY
from ccloss.bench.paper.tables import TABLE1, TABLE2, TABLE4, TABLE5, Column


def test_settings_differ_in_more_than_method_and_seed() -> None:
    records = [
        make_record("cc", 2),
        make_record("ce", 1),
        make_record("cc", 1, evaluate_every=3),
        make_record("ce", 1, batch_size=64),
        make_record("ce", 1, data="mnist", backbone="vgg16"),
        make_record("ce", 1, classes=["a", "b"]),
    ]
    found = settings(records)
    assert [list(setting.methods) for setting in found] == [["ce", "cc"], ["ce"], ["ce"], ["ce"]]
    assert list(found[0].methods["cc"]) == [1, 2]
    assert found[1].title == "digits · convnet · batch size 64"
    assert found[2].title == "mnist · vgg16"


def test_methods_are_ordered_and_compared_as_planned() -> None:
    records = [make_record(name, 1) for name in ("focal", "cc", "ce+cam", "ce")]
    assert method_order(records) == ["ce", "ce+cam", "cc", "focal"]
    assert method_pairs(["ce", "ce+cam", "cc", "focal"]) == [
        ("ce+cam", "ce"),
        ("cc", "ce"),
        ("focal", "ce"),
        ("cc", "ce+cam"),
        ("cc", "focal"),
    ]
    assert method_pairs(["cc"]) == method_pairs([]) == []
    assert method_pairs(["focal", "center"]) == [("center", "focal")]
    assert ("cc weight=1.5", "cc weight=2") in method_pairs(["cc", "cc weight=1.5", "cc weight=2"])


def test_one_comparison_has_one_p_value_in_every_table() -> None:
    """Tables 1, 4 and 5 and the comparison of methods share a family."""
    rows = ("table1/mnist/vgg16/ce", "table1/mnist/vgg16/focal", "table4/mnist/vgg16/ce+cam")
    rows += ("table1/mnist/vgg16/cc", "table5/mnist/vgg16/lambda=2")
    noise = (0.0, 0.2, -0.1, 0.15, 0.3)
    records = [
        table_record(cell, seed, 98 + number / 10 + noise[(seed + number) % 5] * (1 + number / 9))
        for number, cell in enumerate(rows)
        for seed in range(5)
    ]
    (setting,) = settings(records)
    expected = setting.comparison("cc", "ce")
    assert expected is not None
    assert expected.family == 7
    for table in (TABLE1, TABLE4):
        (column,) = table_columns(records, table)
        assert column.is_full
        assert column.comparison("cc", "ce", ACCURACY) == expected
        swapped = column.comparison("ce", "cc", ACCURACY)
        assert (swapped.p_adjusted, swapped.estimate) == (
            expected.p_adjusted,
            -(expected.estimate or 0),
        )
    (column,) = table_columns(records, TABLE5)
    found = column.comparison("lambda=1", "lambda=2", ACCURACY)
    assert found.row == "lambda=1"
    assert found.family == 7


def test_table_2_has_a_family_of_its_own() -> None:
    cars, cifar = Column("cars196", "vgg16"), Column("cifar100", "vgg16")
    assert ("batch=16", "batch=32") in table_pairs(TABLE2, cars)
    assert ("batch=32", "batch=16") in table_pairs(TABLE2, cifar)
    for column in (cars, cifar, Column("digits", "convnet")):
        pairs = table_pairs(TABLE2, column)
        assert len({frozenset(pair) for pair in pairs}) == len(pairs)


def test_hardness_is_a_rank_correlation_over_classes() -> None:
    record = make_record("cc", 1, classes=["a", "b", "c"])
    record.evaluation["class_accuracy"] = [90.0, 80.0, 99.0]
    record.evaluation["class_attention_mass"] = [0.2, 0.3, 0.1]
    assert hardness_correlation(record) == pytest.approx(1.0)
    record.evaluation["class_attention_mass"] = None
    assert hardness_correlation(record) is None
