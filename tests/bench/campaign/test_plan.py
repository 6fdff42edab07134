"""Configurations and folders of the runs of a campaign."""

import dataclasses
from pathlib import Path

import pytest

from campaigns import small_plan
from ccloss.bench.campaign.plan import plan, require_same_experiment, resolve_for
from ccloss.bench.experiment import Experiment
from ccloss.bench.paper.tables import TABLES
from ccloss.errors import InputError
from ccloss.training.records import RunFolder
from small_runs import small_config, small_experiment


def test_first_rounds_come_first_and_rounds_differ_in_the_seed(tmp_path: Path) -> None:
    runs = plan([small_experiment(loss=name, seed=5) for name in ("ce", "cc")], 3, tmp_path)
    assert [(run.config.loss, run.round) for run in runs] == [
        (loss, number) for number in (1, 2, 3) for loss in ("ce", "cc")
    ]
    assert [run.config.seed for run in runs] == [5, 5, 6, 6, 7, 7]
    for run in runs:
        assert dataclasses.replace(run.config, seed=0) == small_config(loss=run.config.loss)


def test_folder_names_contain_data_backbone_and_method(tmp_path: Path) -> None:
    experiments = [
        small_experiment(loss="cc"),
        small_experiment(loss="cc", loss_options={"weight": 0.5}),
        small_experiment(loss="ce+cam", batch_size=8),
        small_experiment(loss="cc", optimizer="adamw", mixup=0.2),
        small_experiment(loss="ce", data="folder:/a/b c", backbone="timm:resnet10t", channels=3),
        Experiment(data="mnist", loss="ce"),
        Experiment(data="mnist", loss="ce", clip_grad_norm=0.0),
    ]
    paths = [str(run.folder.path.relative_to(tmp_path)) for run in plan(experiments, 1, tmp_path)]
    assert paths == [
        "digits/convnet/cc-hidden_features=16/round-1",
        "digits/convnet/cc-weight=0.5-hidden_features=16/round-1",
        "digits/convnet/ce+cam-batch_size=8-hidden_features=16/round-1",
        "digits/convnet/cc-hidden_features=16-optimizer=adamw-mixup=0.2/round-1",
        "folder-a-b-c/timm-resnet10t/ce-hidden_features=16/round-1",
        "mnist/vgg16/ce/round-1",
        "mnist/vgg16/ce-clip_grad_norm=0.0/round-1",
    ]


def test_plan_of_the_paper_is_complete_without_duplicates(tmp_path: Path) -> None:
    experiments = [cell.experiment for table in TABLES.values() for cell in table.cells()]
    runs = plan(experiments, 5, tmp_path)
    wanted = {repr(experiment.resolve()) for experiment in experiments}
    first = [repr(run.config) for run in runs if run.round == 1]
    assert set(first) == wanted
    assert len(first) == len(wanted) == 42 + 4 * 2 + 6 + 4 * 3 + 2  # less what tables share
    assert len({run.folder.path for run in runs}) == len(runs) == 5 * len(wanted)


def test_rounds_must_be_positive(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="rounds must be 1 or more, got 0"):
        small_plan(tmp_path, rounds=0)


def test_option_at_its_default_is_the_same_run(tmp_path: Path) -> None:
    (plain,) = small_plan(tmp_path, rounds=1, losses="cc")
    (same,) = small_plan(tmp_path, rounds=1, losses="cc", loss_options={"weight": "1.0"})
    (other,) = small_plan(tmp_path, rounds=1, losses="cc", loss_options={"weight": 2})
    assert (same.config, same.folder.path) == (plain.config, plain.folder.path)
    assert other.folder.path != plain.folder.path


def test_long_names_are_shortened_and_stay_distinct(tmp_path: Path) -> None:
    weights = [[1 + number / 7] * 100 for number in range(3)]
    experiments = [small_experiment(loss_options={"class_weights": each}) for each in weights]
    experiments += [
        small_experiment(data=f"folder:{'花' * 200}{number}", backbone="convnet", channels=3)
        for number in (1, 2)
    ]
    runs = plan(experiments, 1, tmp_path)
    assert len({run.folder.path for run in runs}) == len(runs)
    for run in runs:
        run.folder.path.mkdir(parents=True)
        names = run.folder.path.relative_to(tmp_path).parts
        assert all(len(name.encode()) <= 120 for name in names)


def test_two_experiments_cannot_share_a_folder(tmp_path: Path) -> None:
    experiments = [small_experiment(epochs=3), small_experiment(epochs=4)]
    with pytest.raises(InputError, match=r"would share .*epochs: 3 before, 4 now"):
        plan(experiments, 1, tmp_path)


def test_folder_of_another_experiment_is_rejected(tmp_path: Path) -> None:
    before, now = (small_plan(tmp_path, epochs=epochs)[0] for epochs in (3, 4))
    before.folder.path.mkdir(parents=True)
    before.folder.write_config(before.config)
    require_same_experiment(before)
    with pytest.raises(InputError, match=r"another experiment .epochs: 3 before, 4 now"):
        require_same_experiment(now)


def test_folder_of_other_channels_is_rejected(tmp_path: Path) -> None:
    planned = small_plan(tmp_path)[0]
    run = dataclasses.replace(planned, config=dataclasses.replace(planned.config, channels=3))
    run.folder.path.mkdir(parents=True)
    run.folder.write_config(dataclasses.replace(run.config, channels=1))
    with pytest.raises(InputError, match="channels: 1 before, 3 now"):
        require_same_experiment(run)


def test_a_campaign_keeps_the_precision_of_its_first_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    experiments = [Experiment(data=data, loss="ce") for data in ("mnist", "cifar100")]
    monkeypatch.setattr("ccloss.bench.campaign.plan.default_precision", lambda: "fp32")
    before = plan(experiments, 2, tmp_path)
    (run,) = [run for run in before if run.config.data == "mnist" and run.round == 2]
    run.folder.path.mkdir(parents=True)
    run.folder.write_config(run.config)
    monkeypatch.setattr("ccloss.bench.campaign.plan.default_precision", lambda: "bf16")
    resumed = plan(experiments, 2, tmp_path)
    assert [(run.config.data, run.config.precision) for run in resumed] == [
        ("mnist", "fp32"),
        ("cifar100", "bf16"),
    ] * 2
    assert [run.folder.path for run in resumed] == [run.folder.path for run in before]
    for run in resumed:
        require_same_experiment(run)


def test_a_given_precision_is_kept(tmp_path: Path) -> None:
    runs = plan([Experiment(data="mnist", precision="bf16")], 2, tmp_path)
    assert [run.config.precision for run in runs] == ["bf16", "bf16"]


@pytest.mark.parametrize(("device", "other"), [("bf16", "fp32"), ("fp32", "bf16")])
def test_a_single_run_resumes_in_its_stored_precision(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, device: str, other: str
) -> None:
    experiment, folder = Experiment(data="mnist"), RunFolder(tmp_path)
    monkeypatch.setattr("ccloss.bench.campaign.plan.default_precision", lambda: device)
    config = resolve_for(experiment, folder)
    assert config.precision == device
    folder.write_config(config)
    monkeypatch.setattr("ccloss.bench.campaign.plan.default_precision", lambda: other)
    assert resolve_for(experiment, folder) == config


def test_folder_with_foreign_files_is_rejected(tmp_path: Path) -> None:
    run = small_plan(tmp_path)[0]
    run.folder.path.mkdir(parents=True)
    (run.folder.path / "thesis.tex").write_text("mine")
    with pytest.raises(InputError, match="files that are not of a run"):
        require_same_experiment(run)


def test_failed_run_can_be_repeated(tmp_path: Path) -> None:
    run = small_plan(tmp_path)[0]
    run.folder.write_failure(InputError("there were no data"))
    require_same_experiment(run)
    assert RunFolder(run.folder.path).read_failure()["error"] == "there were no data"
