"""What is to be done, and where."""

import dataclasses
from pathlib import Path

import pytest

from campaigns import small_plan
from ccloss.bench.campaign.plan import check_own, in_one_precision, plan
from ccloss.bench.experiment import Experiment
from ccloss.bench.paper import TABLES
from ccloss.errors import InputError
from ccloss.training import loop as training
from ccloss.training.records import RunFolder
from runs import small_experiment


def test_rounds_come_before_further_rounds_and_differ_in_the_seed_alone(tmp_path: Path) -> None:
    runs = plan([small_experiment(loss=name, seed=5) for name in ("ce", "cc")], 3, tmp_path)
    assert [(run.experiment.loss, run.round) for run in runs] == [
        (loss, number) for number in (1, 2, 3) for loss in ("ce", "cc")
    ]
    assert [run.experiment.seed for run in runs] == [5, 5, 6, 6, 7, 7]
    for run in runs:
        assert dataclasses.replace(run.experiment, seed=0) == small_experiment(
            loss=run.experiment.loss
        )


def test_places_tell_data_backbone_and_method(tmp_path: Path) -> None:
    experiments = [
        small_experiment(loss="cc"),
        small_experiment(loss="cc", loss_options={"weight": 0.5}),
        small_experiment(loss="ce+cam", batch_size=8),
        small_experiment(loss="ce", data="folder:a/b c", backbone="timm:resnet10t"),
    ]
    places = [str(run.folder.path.relative_to(tmp_path)) for run in plan(experiments, 1, tmp_path)]
    assert places == [
        "digits/convnet/cc-hidden_features=16/round-1",
        "digits/convnet/cc-weight=0.5-hidden_features=16/round-1",
        "digits/convnet/ce+cam-batch_size=8-hidden_features=16/round-1",
        "folder-a-b-c/timm-resnet10t/ce-hidden_features=16/round-1",
    ]


def test_the_whole_paper_has_no_run_twice_and_none_too_few(tmp_path: Path) -> None:
    experiments = [cell.experiment for table in TABLES.values() for cell in table.cells()]
    runs = plan(experiments, 5, tmp_path)
    wanted = {repr(experiment.resolve()) for experiment in experiments}
    first = [repr(run.experiment.resolve()) for run in runs if run.round == 1]
    assert set(first) == wanted
    assert len(first) == len(wanted) == 42 + 4 * 2 + 6 + 4 * 3 + 2  # less what tables share
    assert len({run.folder.path for run in runs}) == len(runs) == 5 * len(wanted)


def test_no_rounds_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="rounds must be 1 or more, got 0"):
        small_plan(tmp_path, rounds=0)


def test_two_experiments_in_one_place_are_refused(tmp_path: Path) -> None:
    experiments = [small_experiment(epochs=3), small_experiment(epochs=4)]
    with pytest.raises(InputError, match=r"would share .*epochs: 3 before, 4 now"):
        plan(experiments, 1, tmp_path)


def test_a_folder_of_another_experiment_is_refused(tmp_path: Path) -> None:
    before, now = (small_plan(tmp_path, epochs=epochs)[0] for epochs in (3, 4))
    before.folder.path.mkdir(parents=True)
    settled = dataclasses.replace(before.experiment.resolve(), channels=1)
    before.folder.write_experiment(settled.to_dict())
    check_own(before)
    with pytest.raises(InputError, match=r"another experiment .epochs: 3 before, 4 now"):
        check_own(now)


def test_a_folder_of_other_channels_is_refused(tmp_path: Path) -> None:
    run = small_plan(tmp_path, channels=3)[0]
    run.folder.path.mkdir(parents=True)
    settled = dataclasses.replace(run.experiment.resolve(), channels=1)
    run.folder.write_experiment(settled.to_dict())
    with pytest.raises(InputError, match="channels: 1 before, 3 now"):
        check_own(run)


def test_a_campaign_keeps_to_the_precision_of_its_first_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "_has_bf16", lambda device: True)
    runs = plan([Experiment(data=data, loss="ce") for data in ("mnist", "cifar100")], 2, tmp_path)
    mnist = [run for run in runs if run.experiment.data == "mnist"]
    mnist[1].folder.path.mkdir(parents=True)
    settled = dataclasses.replace(mnist[1].experiment.resolve(), channels=1, precision="fp32")
    mnist[1].folder.write_experiment(settled.to_dict())
    known = in_one_precision(runs)
    assert [(run.experiment.data, run.experiment.precision) for run in known] == [
        ("mnist", "fp32"),
        ("cifar100", "bf16"),
    ] * 2
    assert [run.folder.path for run in known] == [run.folder.path for run in runs]
    for run in known:
        check_own(run)


def test_a_precision_that_is_asked_for_is_kept(tmp_path: Path) -> None:
    runs = plan([Experiment(data="mnist", precision="bf16")], 2, tmp_path)
    assert [run.experiment.precision for run in in_one_precision(runs)] == ["bf16", "bf16"]


def test_a_folder_with_other_files_is_refused(tmp_path: Path) -> None:
    run = small_plan(tmp_path)[0]
    run.folder.path.mkdir(parents=True)
    (run.folder.path / "thesis.tex").write_text("mine")
    with pytest.raises(InputError, match="files that are not of a run"):
        check_own(run)


def test_a_failure_alone_does_not_keep_a_run_from_its_folder(tmp_path: Path) -> None:
    run = small_plan(tmp_path)[0]
    run.folder.write_failure(InputError("there were no data"))
    check_own(run)
    assert RunFolder(run.folder.path).read_failure()["error"] == "there were no data"
