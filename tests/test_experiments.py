"""experiments/: the command, its records, and the Julia port's network."""

import json
import multiprocessing
import re
import sys
from copy import deepcopy
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import torchvision
from helpers import (
    assert_same_training,
    randomise,
    small_fashion_mnist,
    small_house_prices,
    without_seconds,
)
from torch import nn

from d2l_dense import AmesHousing, DenseBlock, DenseNet, FashionMNIST, cost, records
from d2l_dense.data import ames, files
from experiments import __main__ as command
from experiments import (
    bench,
    densenet,
    details,
    housing,
    memory,
    parameters,
    pooling,
    search,
    sparse,
    step_profile,
    training,
)
from experiments.port import PortedDenseNet, dense_block, transition_block
from experiments.provenance import provenance
from experiments.regressors import network
from experiments.resnet import ResNet

# The port


def test_the_port_has_its_published_parameters():
    assert sum(p.numel() for p in PortedDenseNet().parameters()) == 754_082


def test_the_ports_264_has_the_parameters_that_it_prints():
    with torch.device("meta"):
        net = PortedDenseNet((6, 12, 64, 48))
    assert sum(p.numel() for p in net.parameters()) == 53_786_826


def test_the_port_pools_8x8_to_5x5():
    X = torch.randn(4, 3, 8, 8)
    Y = dense_block(3, 2, 10)(X)
    assert Y.shape == (4, 23, 8, 8)
    assert transition_block(23, 10)(Y).shape == (4, 10, 5, 5)


def test_every_stage_of_the_port_at_96x96():
    X, sizes = torch.randn(2, 1, 96, 96), {}
    for name, stage in PortedDenseNet().net.named_children():
        X = stage(X)
        sizes[name] = tuple(X.shape[1:])
    assert list(sizes.values()) == [
        (64, 24, 24), (192, 24, 24), (96, 13, 13), (224, 13, 13), (112, 7, 7),
        (240, 7, 7), (120, 4, 4), (248, 4, 4), (10,),
    ]  # fmt: skip


class PlainBlock(nn.Module):
    """The port's dense block in torch.nn's parts: convolution, BN, ReLU."""

    def __init__(self, in_channels, num_layers, growth_rate):
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(in_channels + i * growth_rate, growth_rate, 3, padding=1),
                nn.BatchNorm2d(growth_rate),
                nn.ReLU(),
            )
            for i in range(num_layers)
        )

    def forward(self, X):
        for layer in self.layers:
            X = torch.cat((X, layer(X)), dim=1)
        return X


def test_the_port_equals_the_plain_form_in_training():
    def transition(channels):
        return [
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.Conv2d(channels, channels // 2, kernel_size=1),
            nn.AvgPool2d(kernel_size=2, stride=2, padding=1),
        ]

    plain = nn.Sequential(
        nn.Conv2d(1, 64, kernel_size=7, stride=2, padding=3),
        nn.BatchNorm2d(64),
        nn.ReLU(),
        nn.MaxPool2d(kernel_size=3, stride=2, padding=1),
        PlainBlock(64, 4, 32),
        *transition(192),
        PlainBlock(96, 4, 32),
        *transition(224),
        PlainBlock(112, 4, 32),
        *transition(240),
        PlainBlock(120, 4, 32),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(248, 10),
    )
    assert_same_training(PortedDenseNet(), plain, (3, 1, 32, 32))


# The command

TINY = {
    "model": {"num_channels": 4, "growth_rate": 2, "arch": [1, 1], "lr": 0.1},
    "data": {"batch_size": 16, "resize": [32, 32], "flip": True},
    "max_epochs": 2,
    "schedule": "one_cycle",
}


@pytest.fixture
def experiment(tmp_path, monkeypatch):
    """A function that runs the command on small data, with small networks."""
    small_fashion_mnist(tmp_path / "data", monkeypatch)
    monkeypatch.setenv("D2L_DENSE_DATA", str(tmp_path / "data"))
    plain = TINY | {"schedule": None}
    monkeypatch.setattr(densenet, "ARMS", {"ours": TINY, "d2l": plain})

    def experiment(*arguments):
        folders = "--results", tmp_path / "results", "--checkpoints", tmp_path / "runs"
        words = ["experiments", *arguments, *folders]
        monkeypatch.setattr(sys, "argv", [str(word) for word in words])
        command.main()

    return experiment


def test_a_device_that_is_not_here(experiment, monkeypatch):
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(ValueError, match="accelerator='mps': expected one that is he"):
        experiment("densenet", "--device", "mps")


def test_a_run_on_a_chosen_device(experiment, tmp_path):
    experiment("densenet", "--arms", "ours", "--device", "cpu")
    (record,) = records.load("densenet", folder=tmp_path / "results")
    assert record["device"]["type"] == "cpu"


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_a_run_in_a_chosen_precision(experiment, tmp_path, precision):
    """Whatever is the best here."""
    experiment("densenet", "--arms", "ours", "--precision", precision)
    (record,) = records.load("densenet", folder=tmp_path / "results")
    assert record["device"]["precision"] == precision


def test_a_run_is_recorded(experiment, tmp_path, capsys):
    experiment("densenet", "--arms", "ours")
    (record,) = records.load("densenet", folder=tmp_path / "results")
    assert (record["arm"], record["seed"]) == ("ours", 0)
    assert record["configuration"] == TINY
    assert [row["epoch"] for row in record["history"]] == [1, 2]
    assert record["seconds"] == sum(row["seconds"] for row in record["history"])
    for split in ("train", "val", "test"):
        assert 0 <= record[f"{split}_accuracy"] <= 1 and record[f"{split}_loss"] > 0
    assert record["val_loss"] == pytest.approx(record["history"][-1]["val_loss"])
    said = capsys.readouterr().out
    assert re.search(r"^wrote densenet-ours-0-\w+\.json$", said, re.M)


def test_what_is_recorded_is_not_run_again(experiment, tmp_path, monkeypatch, capsys):
    experiment("densenet", "--arms", "d2l")
    place = next((tmp_path / "results").iterdir())
    before = place.read_bytes()
    monkeypatch.setattr(densenet, "execute", lambda run: pytest.fail("it ran"))
    capsys.readouterr()
    experiment("densenet", "--arms", "d2l")
    assert capsys.readouterr().out == f"{place.name} is there\n"
    assert place.read_bytes() == before


def test_a_cut_record_is_not_taken_for_a_run(experiment, tmp_path):
    (tmp_path / "results").mkdir()
    place = records.path("densenet", "ours", 0, "cpu", tmp_path / "results")
    place.touch()
    with pytest.raises(ValueError, match=f"{place} is not JSON"):
        experiment("densenet", "--device", "cpu", "--arms", "ours")


def test_seeds_and_arms(experiment, tmp_path, monkeypatch):
    ran = []

    def execute(run):
        ran.append((run.arm, run.seed))
        return {
            "experiment": run.experiment,
            "arm": run.arm,
            "seed": run.seed,
            "configuration": {},
            "device": {"type": run.device, "name": "x", "precision": "32-true"},
            "versions": {"python": "3", "torch": "2"},
            "commit": "0",
            "date": "2025-11-24",
            "seconds": 1.0,
            "history": [{"epoch": 1, "seconds": 1.0}],
        }

    monkeypatch.setattr(densenet, "execute", execute)
    experiment("densenet", "--arms", "d2l")
    experiment("densenet", "--seeds", 2)
    assert ran == [("d2l", 0), ("ours", 0), ("ours", 1), ("d2l", 1)]


def test_the_mirroring_is_off_when_training_pictures_are_scored(
    experiment, tmp_path, monkeypatch
):
    made = []

    def data(**options):
        made.append(FashionMNIST(**options))
        return made[-1]

    monkeypatch.setattr(training, "FashionMNIST", data)
    experiment("densenet", "--arms", "ours")
    assert made[0].flip and not made[0].train.flip


def test_an_interrupted_run_goes_on(experiment, tmp_path, monkeypatch):
    experiment("densenet", "--arms", "ours")
    results, runs = tmp_path / "results", tmp_path / "runs"
    (whole,) = records.load("densenet", folder=results)
    for path in (*results.iterdir(), *runs.iterdir()):
        path.unlink()

    fit_epoch, epochs = training.Trainer.fit_epoch, []

    def stop(trainer):
        epochs.append(trainer.epoch)
        if epochs == [0, 1]:
            raise KeyboardInterrupt
        return fit_epoch(trainer)

    monkeypatch.setattr(training.Trainer, "fit_epoch", stop)
    with pytest.raises(KeyboardInterrupt):
        experiment("densenet", "--arms", "ours")
    assert records.load("densenet", folder=results) == []
    experiment("densenet", "--arms", "ours")
    assert epochs == [0, 1, 1]
    (record,) = records.load("densenet", folder=results)
    assert without_seconds(record["history"]) == without_seconds(whole["history"])
    for key in ("train_loss", "val_loss", "test_loss", "test_accuracy"):
        assert record[key] == whole[key]


def test_an_arm_that_is_not_there(experiment, capsys):
    with pytest.raises(SystemExit) as error:
        experiment("densenet", "--arms", "ours", "theirs")
    assert error.value.code == 2
    assert "no arm 'theirs'; there are ours, d2l" in capsys.readouterr().err


def test_an_experiment_that_is_not_there(experiment, capsys):
    with pytest.raises(SystemExit) as error:
        experiment("resnet")
    assert error.value.code == 2
    assert "invalid choice: 'resnet'" in capsys.readouterr().err


@pytest.mark.parametrize("seeds", ["0", "-1", "two"])
def test_a_number_of_seeds_that_is_none(experiment, capsys, seeds):
    with pytest.raises(SystemExit) as error:
        experiment("densenet", "--seeds", seeds)
    assert error.value.code == 2
    words = f"argument --seeds: {seeds}: expected a whole number, 1 or more"
    assert words in capsys.readouterr().err


def test_a_checkpoint_of_another_run_is_not_taken(experiment, tmp_path, monkeypatch):
    experiment("densenet", "--arms", "ours")
    for path in (tmp_path / "results").iterdir():
        path.unlink()
    longer = deepcopy(TINY) | {"max_epochs": 3}
    monkeypatch.setattr(densenet, "ARMS", {"ours": longer})
    with pytest.raises(ValueError, match="belongs to another run: its steps"):
        experiment("densenet", "--arms", "ours")


# The networks of exercise 2


def test_the_resnet_is_torchvisions():
    ours = ResNet(in_channels=3, num_classes=1000)
    theirs = torchvision.models.resnet18()
    assert_same_training(ours, theirs, (4, 3, 64, 64))


@pytest.mark.parametrize("arm", parameters.ARMS)
def test_a_miniature_epoch_of_exercise_2(experiment, arm, tmp_path, monkeypatch):
    # At least 8: for a 1x1 convolution of 4 channels oneDNN's AVX2 kernel of the
    # weights' gradient may never end (torch 2.14.1, channels_last).
    model = TINY["model"] if arm == "densenet" else {"widths": [8, 8, 16, 16]}
    full = parameters.ARMS[arm]
    tiny = {
        **full,
        "model": full["model"] | model,
        "data": full["data"] | {"batch_size": 16},
        "max_epochs": 1,
    }
    monkeypatch.setitem(parameters.ARMS, arm, tiny)
    experiment("parameters", "--arms", arm)
    (record,) = records.load("parameters", folder=tmp_path / "results")
    assert record["configuration"].keys() == full.keys()
    assert record["configuration"] == tiny and len(record["history"]) == 1


def test_the_networks_of_exercise_2_are_of_the_sizes_that_it_says():
    counts = {}
    for arm, configuration in parameters.ARMS.items():
        assert json.loads(json.dumps(configuration)) == configuration
        with torch.device("meta"):
            net = parameters.NETWORKS[arm](**configuration["model"])
        counts[arm] = sum(p.numel() for p in net.parameters())
    # ResNet-18 has 11,689,512 for 3 channels and 1,000 classes.
    resnet18 = 11_689_512 - 2 * 49 * 64 - 990 * 513
    assert counts == {
        "densenet": 758_226,
        "resnet18": resnet18,
        "narrow_resnet": 760_116,
    }


def test_all_networks_of_exercise_2_are_trained_alike():
    recipes = []
    for arm, configuration in parameters.ARMS.items():
        net = parameters.NETWORKS[arm](**configuration["model"])
        group = net.configure_optimizers().param_groups[0]
        keys = ("lr", "momentum", "nesterov", "weight_decay")
        rest = {k: v for k, v in configuration.items() if k != "model"}
        recipes.append(({key: group[key] for key in keys}, rest))
    assert recipes[0] == recipes[1] == recipes[2]
    assert recipes[0][0]["lr"] == 0.15 and recipes[0][0]["nesterov"]


# Exercise 5


@pytest.fixture
def small_housing(experiment, tmp_path, monkeypatch):
    """A function that runs exercise 5 on few sales, with short searches."""
    frame = ames._ames()
    small_house_prices(tmp_path / "data", monkeypatch, frame)
    monkeypatch.setattr(ames, "_ames", lambda: frame[:80].copy())
    for arm, full in housing.ARMS.items():
        short = {"trials": 2, "inner_folds": 2, "data": full["data"] | {"num_folds": 2}}
        short["max_epochs"] = full["max_epochs"] and 2
        monkeypatch.setitem(housing.ARMS, arm, full | short)
    return lambda *arguments: experiment("housing", *arguments)


@pytest.mark.parametrize(
    "name, arms",
    [("housing", list(housing.ARMS)), ("housing_kaggle", ["dense_mlp", "lasso"])],
)
def test_a_miniature_of_exercise_5(small_housing, tmp_path, name, arms):
    source = "kaggle" if name == housing.KAGGLE else "ames"
    small_housing("--source", source, "--arms", *arms)
    found = records.load(name, folder=tmp_path / "results")
    assert {record["arm"] for record in found} == set(arms)
    data = AmesHousing(source=source, num_folds=2, root=tmp_path / "data")
    for record in found:
        assert record["configuration"] == housing.ARMS[record["arm"]]
        epochs = record["configuration"]["max_epochs"] or 1
        assert [row["epoch"] for row in record["history"]] == [*range(1, epochs + 1)]
        errors, scores = np.array(record["errors"]), []
        assert errors.shape == data.log_prices.shape
        for fold, (_, val) in zip(record["folds"], data.folds(), strict=True):
            scores.append(np.sqrt(np.mean(errors[val] ** 2)))
            assert fold["rmse"] == pytest.approx(scores[-1], rel=1e-3)
        assert record["rmse"] == pytest.approx(np.mean(scores), rel=1e-3)
        if "beta" in record["configuration"]["space"]:
            last = record["history"][-1]["val_rmse"]
            assert last == pytest.approx(record["rmse"], rel=0.05)


def test_committed_records_of_exercise_5_are_of_this_form(small_housing, tmp_path):
    full = deepcopy(housing.ARMS)
    small_housing("--arms", "dense_mlp")
    (small,) = records.load("housing", folder=tmp_path / "results")
    for record in records.load("housing") + records.load("housing_kaggle"):
        assert record["configuration"].keys() == full[record["arm"]].keys()
        assert record.keys() - {"note"} == small.keys()
        assert record["folds"][0].keys() == small["folds"][0].keys()
        assert len(record["folds"]) == 5


def test_another_seed_takes_the_settings_that_were_found(
    small_housing, tmp_path, monkeypatch
):
    small_housing("--arms", "dense_mlp")
    monkeypatch.setattr(housing, "search", lambda *_: pytest.fail("searched again"))
    small_housing("--arms", "dense_mlp", "--seeds", 2)
    first, second = records.load("housing", folder=tmp_path / "results")
    settings = [[fold["settings"] for fold in r["folds"]] for r in (first, second)]
    assert settings[0] == settings[1]
    assert first["errors"] != second["errors"]


def test_settings_found_for_another_configuration_are_not_taken(
    small_housing, tmp_path, monkeypatch
):
    small_housing("--arms", "ridge")
    for path in (tmp_path / "results").iterdir():
        path.unlink()
    other = housing.ARMS["ridge"] | {"space": {"alpha": [5]}}
    monkeypatch.setitem(housing.ARMS, "ridge", other)
    small_housing("--arms", "ridge")
    (record,) = records.load("housing", folder=tmp_path / "results")
    assert [fold["settings"] for fold in record["folds"]] == [{"alpha": 5}] * 2


def test_a_search_sees_no_row_but_its_own(monkeypatch):
    data, seen = AmesHousing(), []
    rows = data.train_rows[:300]

    def fit(arm, settings, part, seed, max_epochs, device):
        def predict(features):
            train = data.features.index[part.train_rows]
            seen.append((set(train), set(features.index)))
            return np.zeros(len(features))

        return predict, [], None

    monkeypatch.setattr(search, "fit", fit)
    found = search.search("ridge", housing.ARMS["ridge"], data, rows, "cpu")
    own = set(data.features.index[rows])
    assert len(seen) == 10 * 3 and found["inner_rmse"] > 11
    for train, val in seen:
        assert train | val == own and not train & val
    assert seen[:3] == seen[3:6] and set.union(*(val for _, val in seen[:3])) == own


def test_draws_lie_in_their_space_and_are_the_same_for_all_networks():
    draws = {}
    for arm, configuration in housing.ARMS.items():
        random = np.random.default_rng(0)
        draws[arm] = [search.draw(configuration["space"], random) for _ in range(50)]
    assert draws["dense_mlp"] == draws["plain_mlp"] == draws["residual_mlp"]
    assert draws["dense_mlp"] == draws["stem_mlp"]
    for settings in draws["dense_mlp"]:
        assert 0.002 <= settings["lr"] <= 0.01 and settings["dropout"] in (0, 0.1, 0.2)
        assert (settings["l1"] == 0) != (settings["weight_decay"] == 0)
    assert len({settings["lr"] for settings in draws["dense_mlp"]}) > 40
    assert {c["trials"] for c in housing.ARMS.values()} == {10}
    assert {c["inner_folds"] for c in housing.ARMS.values()} == {3}


@pytest.mark.parametrize("growth_rate", [8, 16, 32])
@pytest.mark.parametrize("num_layers", [1, 2, 3])
def test_the_networks_of_exercise_5_have_as_many_parameters(growth_rate, num_layers):
    settings = search.draw(housing.ARMS["dense_mlp"]["space"], np.random.default_rng(0))
    settings |= {"growth_rate": growth_rate, "num_layers": num_layers}
    counts = {}
    for arm in ("dense_mlp", "plain_mlp", "residual_mlp", "stem_mlp"):
        net = network(arm, 250, settings)
        counts[arm] = sum(p.numel() for p in net.parameters())
        assert net(torch.zeros(2, 250)).shape == (2, 1)
    for count in counts.values():
        assert count == pytest.approx(counts["dense_mlp"], rel=0.06)
    assert network("linear", 250, settings | {"num_layers": 0}).head.in_features == 250


def test_the_residual_network_by_hand():
    settings = {"growth_rate": 4, "num_layers": 2, "dropout": 0.0, "lr": 0.1}
    settings |= {"beta": 1.0, "l1": 0.0, "weight_decay": 0.0}
    net = randomise(network("residual_mlp", 6, settings))
    X = torch.randn(3, 6, dtype=torch.float64)
    Y = net.stem(X)
    for layer in net.layers:
        Y = Y + torch.relu(layer[0](Y))
    torch.testing.assert_close(net(X), net.head(Y))


def test_a_submission(small_housing, tmp_path, monkeypatch):
    place = tmp_path / "submission.csv"
    small_housing("--source", "kaggle", "--submit", place)
    table = pd.read_csv(place)
    assert list(table) == ["Id", "SalePrice"]
    assert table["Id"].tolist() == list(range(61, 81))
    assert table["SalePrice"].between(1e4, 1e6).all()
    before = place.read_bytes()

    def fit(*_):
        return lambda features: np.full(len(features), 1e4), [], None  # exp overflows

    monkeypatch.setattr(housing, "fit", fit)
    monkeypatch.setattr(housing, "search", lambda *_: {"settings": {}})
    with (
        np.errstate(over="ignore"),
        pytest.raises(ValueError, match="a predicted price is not a finite number"),
    ):
        small_housing("--source", "kaggle", "--submit", place)
    assert place.read_bytes() == before and not records.load(
        "housing_kaggle", folder=tmp_path / "results"
    )


KAGGLE = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.mark.skipif(not KAGGLE.exists(), reason="Kaggle's files are not here")
def test_a_submission_of_kaggles_1459_sales(experiment, tmp_path, monkeypatch):
    monkeypatch.setenv(files.VARIABLE, str(KAGGLE))
    short = {"trials": 1, "inner_folds": 2, "max_epochs": 2}
    arms = {"dense_mlp": housing.ARMS["dense_mlp"] | short}
    monkeypatch.setattr(housing, "ARMS", arms)
    place = tmp_path / "submission.csv"
    experiment("housing", "--source", "kaggle", "--submit", place)
    table = pd.read_csv(place)
    assert table["Id"].tolist() == list(range(1461, 2920))
    assert table["SalePrice"].between(1e4, 2e6).all() and len(table) == 1459


@pytest.mark.parametrize("price", [np.nan, np.inf, 0.0, -1.0])
def test_a_submission_that_kaggle_would_refuse(price):
    with pytest.raises(ValueError, match="not a finite number above 0"):
        housing.submission(pd.Index([1, 2]), np.array([1e5, price]))


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["densenet", "--source", "ames"], "--source and --submit are for housing"),
        (["housing", "--submit", "x.csv"], "--submit needs --source kaggle"),
        (["housing", "--source", "kaggle", "--submit", "/"], "/ is a folder: expected"),
        (["memory", "--precision", "32-true"], "memory has its own"),
    ],
)
def test_options_that_do_not_fit(experiment, capsys, arguments, words):
    with pytest.raises(SystemExit) as error:
        experiment(*arguments)
    assert error.value.code == 2 and words in capsys.readouterr().err


# The recipes and where figures come from


def test_the_recipes_make_networks_and_schedules():
    for configuration in densenet.ARMS.values():
        assert json.loads(json.dumps(configuration)) == configuration
        net = densenet.DenseNet(**configuration["model"])
        assert sum(p.numel() for p in net.parameters()) == 758_226
        assert configuration["data"]["resize"] == [96, 96]
        assert configuration["data"]["batch_size"] == 128
        assert configuration["max_epochs"] == 10
    assert densenet.ARMS["d2l"]["model"] == {"lr": 0.01}


def test_provenance_is_hardware_by_type(monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    found = provenance(torch.device("cpu"), "32-true")
    device = found["device"]
    assert device["type"] == "cpu" and device["precision"] == "32-true"
    assert device["processes"] == 2 and device["cores"] >= 1 and device["name"]
    assert found["versions"]["torch"] == torch.__version__.split("+")[0]
    assert found["versions"]["d2l"] == "1.0.3"
    assert re.fullmatch(r"([0-9a-f]{40}|unknown)(\+changes)?", found["commit"])
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", found["date"])


# Exercise 3


@pytest.mark.parametrize("arm", ["bc_100_12", "depth"])
def test_a_miniature_of_exercise_3(experiment, arm, tmp_path, monkeypatch):
    """The same schema and configuration keys as the committed records."""
    model = dict(stem="cifar", num_channels=8, growth_rate=4, bottleneck=2)
    small = {"model": model, "batch": [4, 3, 16, 16]}
    if arm == "depth":
        small["depths"] = [1, 2]
    else:
        # Blocks of several layers: in a single one what PyTorch's kernel for BN's
        # gradient allocates for itself, unseen by the accounting, is 15 %.
        small |= {"model": model | {"arch": (3, 2)}, "turns": 2}
    monkeypatch.setitem(memory.ARMS, arm, small)
    experiment("memory", "--arms", arm)
    (found,) = records.load("memory", folder=tmp_path / "results")
    for record in records.load("memory", arm):
        assert record["configuration"].keys() == found["configuration"].keys()
        assert record["figures"].keys() >= found["figures"].keys()
    figures = found["figures"]
    assert set(cost.MEMORY) <= figures.keys()
    if arm != "depth":
        for name in cost.MEMORY:
            figure = figures[name]
            assert figure["accounted_bytes"] == pytest.approx(
                figure["peak_bytes"], rel=0.1
            )
            assert all(turn[name] > 0 for turn in found["history"])


@pytest.mark.parametrize("arm", memory.NETWORKS)
def test_the_recorded_peaks_are_those_of_todays_code(arm):
    model, shape = memory.NETWORKS[arm]
    for record in records.load("memory", arm):
        assert record["configuration"]["batch"] == shape
        for name in cost.MEMORY:
            config = {**model, "in_channels": shape[1], "memory": name}
            peak = cost.peak(config, shape).total
            for way in ("accounted_bytes", "peak_bytes"):
                assert record["figures"][name][way] == pytest.approx(peak, rel=0.06)


# The bench


@pytest.mark.parametrize(
    ("operation", "expected"),
    [
        ("aten::convolution_backward", "convolution"),
        ("aten::mkldnn_convolution", "convolution"),
        ("aten::cudnn_batch_norm_backward", "batch normalization"),
        ("aten::threshold_backward", "ReLU"),
        ("aten::clamp_min_", "ReLU"),
        ("aten::mm", "convolution"),
        ("aten::avg_pool2d_backward", "pooling"),
        ("aten::cat", "concatenation, copies and sums"),
        ("aten::addcmul", "concatenation, copies and sums"),
        ("aten::copy_", "concatenation, copies and sums"),
        ("aten::empty", "all else"),
    ],
)
def test_the_kind_of_an_operation(operation, expected):
    assert step_profile.kind(operation) == expected


def test_the_profile_of_steps_that_only_convolve():
    def steps():
        conv, X = nn.Conv2d(16, 16, 3, padding=1), torch.randn(8, 16, 64, 64)
        while True:
            conv(X)
            yield len(X)

    found = step_profile.shares(steps(), torch.device("cpu"))
    assert sum(found.values()) == pytest.approx(1)
    assert max(found, key=found.get) == "convolution"


@pytest.mark.slow
def test_d2ls_way_takes_its_turns_in_another_process():
    with bench.their_turns(torch.device("cpu")) as turn:
        assert turn(1) > 0
        (process,) = multiprocessing.active_children()
        assert turn(1) > 0
    assert process.exitcode == 0


# Other networks than the chapter's


def test_arms_of_exercise_1_differ_in_the_pooling_alone():
    baseline = parameters.ARMS["densenet"]
    for pool, arm in pooling.ARMS.items():
        assert arm == baseline | {"model": baseline["model"] | {"pool": pool}}
        count = sum(p.numel() for p in DenseNet(**arm["model"]).parameters())
        assert count == 758_226


def test_a_layer_in_the_ports_order():
    net = details.PostActivation(4, 2, (1, 2))
    kinds = [type(module) for module in net.net.block2.layers[1]]
    assert kinds == [nn.Conv2d, nn.BatchNorm2d, nn.ReLU]
    assert net(torch.randn(2, 1, 32, 32)).shape == (2, 10)


def test_pytorchs_initial_weights():
    """Uniform within 1 / sqrt(fan in) (Kaiming, a = sqrt(5)), not He's normal."""
    conv = details.DefaultInit().net.block1.layers[0][2]
    bound = (conv.in_channels * 9) ** -0.5
    assert conv.weight.abs().max() <= bound
    assert conv.weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.05)


@pytest.mark.parametrize("sources", [1, 2, 3])
def test_a_sparse_block_by_hand(sources):
    torch.manual_seed(0)
    block = sparse.SparseBlock(5, 4, 3, sources=sources).eval()
    features = [torch.randn(2, 5, 4, 4)]
    for i, (layer, drawn) in enumerate(zip(block.layers, block.read, strict=True)):
        assert len(set(drawn)) == min(sources, i + 1) and max(drawn) <= i
        features.append(layer(torch.cat([features[j] for j in drawn], dim=1)))
    assert block.out_channels == 17
    assert torch.equal(block(features[0]), torch.cat(features, dim=1))


def test_a_sparse_block_that_reads_every_source_is_the_dense_one():
    block = sparse.SparseBlock(5, 4, 3, sources=9, bottleneck=2, bias=False)
    plain = DenseBlock(5, 4, 3, bottleneck=2, bias=False)
    assert_same_training(block, plain, (2, 5, 4, 4))


def test_the_drawn_sources_come_from_the_seed():
    def drawn(seed):
        torch.manual_seed(seed)
        blocks = sparse.SparseDenseNet(8, 4, (6, 6), sources=2).net
        return blocks.block1.read + blocks.block2.read

    assert drawn(0) == drawn(0)
    assert drawn(0) != drawn(1)


def test_the_sparse_arm_differs_in_what_is_read_alone():
    dense = parameters.ARMS["densenet"]
    arm = sparse.ARMS["two_sources"]
    assert arm == dense | {"model": dense["model"] | {"sources": 2}}


@pytest.mark.parametrize(
    ("name", "arm"),
    [
        *(("pooling", arm) for arm in pooling.ARMS),
        *(("details", arm) for arm in details.ARMS),
        *(("sparse", arm) for arm in sparse.ARMS),
    ],
)
def test_a_miniature_epoch_of_other_networks(
    experiment, name, arm, tmp_path, monkeypatch
):
    arms = {"pooling": pooling, "details": details, "sparse": sparse}[name].ARMS
    small = deepcopy(arms[arm])
    small["model"] |= {"num_channels": 8, "growth_rate": 8, "arch": [1, 1]}
    small["data"] |= {"resize": [28, 28]}
    small["max_epochs"] = 1
    monkeypatch.setitem(arms, arm, small)
    experiment(name, "--arms", arm)
    (found,) = records.load(name, folder=tmp_path / "results")
    for record in records.load(name, arm):
        assert record.keys() - {"note"} == found.keys()


def test_the_list_of_experiments(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "argv", ["experiments"])
    command.main()
    listed = capsys.readouterr().out
    for name in (*command.NAMES, housing.KAGGLE):
        assert re.search(rf"^{name} ", listed, re.MULTILINE)
    assert re.search(r"^densenet +ours +0.* \d+\.\d$", listed, re.MULTILINE)
    monkeypatch.setattr(sys, "argv", ["experiments", "--results", str(tmp_path)])
    command.main()
    assert re.search(r"^pooling +max +none +unknown$", capsys.readouterr().out, re.M)


@pytest.mark.parametrize(
    "arguments, words",
    [
        (["--precision", "32-true"], "for which experiment?"),
        (["--seeds", "3"], "for which experiment?"),
        (["--seeds", "1"], "for which experiment?"),
        (["--checkpoints", "runs"], "for which experiment?"),
        (["--results", "none"], "none: there is no such folder"),
    ],
)
def test_options_without_an_experiment(monkeypatch, capsys, arguments, words):
    monkeypatch.setattr(sys, "argv", ["experiments", *arguments])
    with pytest.raises(SystemExit) as error:
        command.main()
    assert error.value.code == 2 and words in capsys.readouterr().err


def test_arguments_without_an_experiment(experiment, capsys):
    with pytest.raises(SystemExit):
        experiment("--arms", "ours")
    assert "for which experiment? There are densenet," in capsys.readouterr().err


def test_a_folder_that_cannot_be_written_is_seen_before_the_work(experiment, tmp_path):
    (tmp_path / "results").write_text("no folder")
    with pytest.raises(OSError, match=f"cannot write to {tmp_path / 'results'}"):
        experiment("densenet", "--arms", "ours")
    assert not (tmp_path / "runs").exists()


def test_a_note_of_a_search_that_is_none(tmp_path):
    note = tmp_path / "note.json"
    for text in ("", "[]", "{}"):
        note.write_text(text)
        with pytest.raises(ValueError, match=f"^{note} is no note of a search. Delete"):
            housing._recall(note, {})
