"""experiments/: the command, its arms and records."""

import itertools
import json
import re
import sys
from copy import deepcopy

import numpy as np
import pandas as pd
import pytest
import torch
from helpers import randomise, small_fashion_mnist, small_house_prices, without_seconds
from lightning_fabric import Fabric

from d2l_dense import AmesHousing, FashionMNIST, cost, house_prices, records
from d2l_dense.recompute import MEMORY
from experiments import __main__ as command
from experiments import bench, housing, memory, training
from experiments.networks import dense_parameters, perceptron
from experiments.provenance import provenance
from experiments.training import Run

COMPARED, DEPTHS = housing.COMPARED, housing.DEPTHS
FULL = dict(COMPARED)
SETTINGS = {"lr": 0.1, "dropout": 0.0, "beta": 1.0, "l1": 0.0, "weight_decay": 0.0}
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
    arms = {"ours": TINY, "d2l": TINY | {"schedule": None}}
    arms = {arm: (training.DenseNet, options) for arm, options in arms.items()}
    monkeypatch.setitem(training.ARMS, "densenet", arms)

    def experiment(*arguments):
        folders = "--results", tmp_path / "results", "--checkpoints", tmp_path / "runs"
        words = ["experiments", *folders, *arguments]
        monkeypatch.setattr(sys, "argv", [str(word) for word in words])
        command.main()

    return experiment


def recorded(folder, *names):
    return records.load(*names, folder=folder / "results")


def test_a_run_is_recorded_once(experiment, tmp_path, monkeypatch, capsys):
    arguments = "densenet", "--arms", "ours", "--note", "a note"
    experiment(*arguments, "--device", "cpu", "--precision", "32-true")
    (record,) = recorded(tmp_path, "densenet")
    assert (record["arm"], record["seed"]) == ("ours", 0)
    assert (record["note"], record["configuration"]) == ("a note", TINY)
    device = record["device"]
    assert (device["type"], device["precision"]) == ("cpu", "32-true")
    assert [row["epoch"] for row in record["history"]] == [1, 2]
    assert record["seconds"] == sum(row["seconds"] for row in record["history"])
    for split in ("train", "val", "test"):
        assert 0 <= record[f"{split}_accuracy"] <= 1 and record[f"{split}_loss"] > 0
    assert record["val_loss"] == pytest.approx(record["history"][-1]["val_loss"])
    assert "wrote densenet-ours-0-cpu.json" in capsys.readouterr().out

    monkeypatch.setattr(training, "execute", lambda run: pytest.fail("it ran"))
    monkeypatch.setattr("d2l_dense.trainer.best_precision", lambda _: "bf16-mixed")
    for precision in ("32-true", "auto"):  # auto: that of the record
        experiment(*arguments, "--precision", precision)
        assert capsys.readouterr().out == "densenet-ours-0-cpu.json is there\n"
    assert recorded(tmp_path, "densenet") == [record]
    words = (
        "^densenet ours is recorded with precision 32-true, and this run would have "
        "bf16-mixed: set --precision 32-true, or other --results$"
    )
    with pytest.raises(ValueError, match=words):
        experiment("densenet", "--precision", "bf16-mixed")


def test_seeds_and_arms(experiment, monkeypatch):
    ran = []

    def execute(run):
        ran.append((run.arm, run.seed))
        return {"configuration": {}, "history": [{"epoch": 1, "seconds": 1.5}]}

    monkeypatch.setattr(training, "execute", execute)
    experiment("densenet", "--arms", "d2l", "ours", "--seeds", 2)
    assert ran == [("d2l", 0), ("ours", 0), ("d2l", 1), ("ours", 1)]


def test_under_torchrun_the_first_process_says_what_is_there(
    experiment, tmp_path, monkeypatch, capsys
):
    """The other machines, whose folders are empty, leave out the same runs."""
    experiment("densenet", "--arms", "ours")
    first = recorded(tmp_path, "densenet")
    for path in tmp_path.glob("results/*"):
        path.unlink()
    monkeypatch.setattr(Fabric, "broadcast", lambda fabric, own: own or first)
    monkeypatch.setattr(training, "execute", lambda run: pytest.fail("it ran"))
    experiment("densenet", "--arms", "ours")
    assert "densenet-ours-0-cpu.json is there" in capsys.readouterr().out


def test_the_mirroring_is_off_where_pictures_are_scored(experiment, monkeypatch):
    made = []

    def data(**options):
        made.append(FashionMNIST(**options))
        return made[-1]

    monkeypatch.setattr(training, "FashionMNIST", data)
    experiment("densenet", "--arms", "ours")
    assert made[0].flip and not made[0].train.flip


def test_an_interrupted_run_goes_on(experiment, tmp_path, monkeypatch):
    experiment("densenet", "--arms", "ours")
    (whole,) = recorded(tmp_path, "densenet")
    for path in [*tmp_path.glob("results/*"), *tmp_path.glob("runs/*")]:
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
    assert recorded(tmp_path, "densenet") == []

    longer = {"ours": (training.DenseNet, TINY | {"max_epochs": 3})}
    with monkeypatch.context() as patch:
        patch.setitem(training.ARMS, "densenet", longer)
        with pytest.raises(ValueError, match="belongs to another run: its max_epochs"):
            experiment("densenet", "--arms", "ours")

    experiment("densenet", "--arms", "ours")
    assert epochs == [0, 1, 1]
    (record,) = recorded(tmp_path, "densenet")
    assert without_seconds(record["history"]) == without_seconds(whole["history"])
    for key in ("train_loss", "val_loss", "test_loss", "test_accuracy"):
        assert record[key] == whole[key]


def test_a_folder_that_cannot_be_written_is_seen_before_the_work(experiment, tmp_path):
    (tmp_path / "results").write_text("no folder")
    with pytest.raises(OSError, match=f"cannot write {tmp_path / 'results'}/.writable"):
        experiment("densenet", "--arms", "ours")
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("resnet", "invalid choice: 'resnet'"),
        ("densenet --source kaggle", "--source and --submit FILE --source kaggle"),
        ("housing_depth --source kaggle", "--source and --submit FILE --source kagg"),
        ("housing --submit x.csv", "--submit FILE --source kaggle are for housing"),
        ("densenet --seeds two", "invalid int value: 'two'"),
        ("densenet --seeds 0", "--seeds=0: expected a whole number"),
        ("densenet --arms a", "--arms='a': expected one of ours, d2l"),
    ],
)
def test_options_that_do_not_fit(experiment, capsys, arguments, words):
    with pytest.raises((SystemExit, ValueError)) as refused:
        experiment(*arguments.split())
    assert words in capsys.readouterr().err + str(refused.value)


def test_the_list_of_experiments(experiment, capsys):
    experiment("--device", "cpu", "--results", records.RESULTS)
    listed = capsys.readouterr().out
    for name, arms in command.ARMS.items():
        for arm in arms:
            assert re.search(rf"^ *{name} +{arm} +\[", listed, re.MULTILINE)
    assert re.search(r" densenet +ours +\[0, 1, 2\] +0 +\d+\.\d +0\.0\n", listed)
    experiment()
    assert re.search(r" max +\[\] +10 +unknown +unknown\n", capsys.readouterr().out)


def test_the_arms_differ_in_the_network_alone():
    counts, own = {}, ("widths", "pool", "sources")
    for name, arms in training.ARMS.items():
        for arm, (network, options) in arms.items():
            assert json.loads(json.dumps(options)) == options
            net = network(**options["model"])
            counts[arm] = sum(p.numel() for p in net.parameters())
            if name == "densenet":
                shape = options["data"]["batch_size"], *options["data"]["resize"]
                assert (*shape, options["max_epochs"]) == (128, 96, 96, 10)
            else:
                shared = {k: v for k, v in options["model"].items() if k not in own}
                assert options | {"model": shared} == training.small()
    assert training.D2L["model"] == {"lr": 0.01}
    # ResNet-18 has 11,689,512 for 3 channels and 1,000 classes.
    assert counts["resnet18"] == 11_689_512 - 2 * 49 * 64 - 990 * 513
    assert counts["narrow_resnet"] == 760_116
    for arm in ("ours", "d2l", "densenet", "max", "stride", "default_init"):
        assert counts[arm] == 758_226


@pytest.mark.parametrize(
    ("name", "arm"),
    [(name, arm) for name in training.ARMS for arm in training.ARMS[name]][2:],
)
def test_a_miniature_of_every_arm(experiment, name, arm, tmp_path, monkeypatch):
    """It writes what the committed records of the arm hold."""
    network_type, full = training.ARMS[name][arm]
    small = deepcopy(full)
    # At least 8: for a 1x1 convolution of 4 channels oneDNN's AVX2 kernel of the
    # weights' gradient may never end (torch 2.14.1, channels_last).
    tiny = {"num_channels": 8, "growth_rate": 8, "arch": [1, 1]}
    if network_type is training.ResNet:
        tiny = {"widths": [8, 8, 16, 16]}
    small["model"] |= tiny
    small["data"] |= {"resize": [28, 28], "batch_size": 16}
    small["max_epochs"] = 1
    monkeypatch.setitem(training.ARMS[name], arm, (network_type, small))
    experiment(name, "--arms", arm)
    (found,) = recorded(tmp_path, name)
    for record in records.load(name, arm):
        assert record["configuration"] == full
        assert record.keys() - {"note"} == found.keys()


@pytest.mark.parametrize("arm", ["bc_100_12", "depth"])
def test_a_miniature_of_exercise_3(experiment, arm, tmp_path, monkeypatch):
    model = dict(stem="cifar", num_channels=8, growth_rate=4, bottleneck=2)
    small = {"model": model, "batch": [8, 3, 16, 16], "depths": [1, 2]}
    if arm != "depth":
        small = {"model": model | {"arch": (3, 2)}, "batch": [8, 3, 16, 16], "turns": 1}
    monkeypatch.setitem(memory.ARMS, arm, small)
    experiment("memory", "--arms", arm, "--device", "cpu")
    (found,) = recorded(tmp_path, "memory")
    for record in records.load("memory", arm):
        assert record["configuration"].keys() == found["configuration"].keys()
        assert record["figures"].keys() == found["figures"].keys()
    assert set(MEMORY) <= found["figures"].keys()
    if arm != "depth":
        assert all(turn[name] > 0 for turn in found["history"] for name in MEMORY)


@pytest.mark.parametrize("arm", [arm for arm in memory.ARMS if arm != "depth"])
def test_the_recorded_peaks_are_those_of_todays_code(arm):
    options = memory.ARMS[arm]
    for record in records.load("memory", arm):
        assert record["configuration"]["batch"] == options["batch"]
        for name in MEMORY:
            config = {"in_channels": options["batch"][1], "memory": name}
            peak = cost.peak({**options["model"], **config}, options["batch"]).total
            for way in ("accounted_bytes", "peak_bytes"):
                assert record["figures"][name][way] == pytest.approx(peak, rel=0.1)


@pytest.fixture
def small_housing(experiment, tmp_path, monkeypatch):
    """A function that runs exercise 5 on few sales, with short searches."""
    frame = house_prices._ames_sales()
    small_house_prices(tmp_path / "data", monkeypatch, frame)
    monkeypatch.setattr(house_prices, "_ames_sales", lambda: frame[:80].copy())
    for arms in (COMPARED, DEPTHS):
        for arm, full in arms.items():
            short = {"trials": 2, "inner_folds": 2}
            short["max_epochs"] = full["max_epochs"] and 2
            short["data"] = full["data"] | {"num_folds": 2}
            monkeypatch.setitem(arms, arm, full | short)
    return experiment


@pytest.mark.parametrize(
    ("name", "arms"),
    [("housing", list(COMPARED)), ("housing_kaggle", ["dense_mlp", "lasso"])],
)
def test_a_miniature_of_exercise_5(small_housing, tmp_path, name, arms):
    source = "kaggle" if name == "housing_kaggle" else "ames"
    small_housing("housing", "--source", source, "--arms", *arms)
    found = recorded(tmp_path, name)
    assert {record["arm"] for record in found} == {*arms}
    data = AmesHousing(source=source, num_folds=2, root=tmp_path / "data")
    for record in found:
        assert record["configuration"] == COMPARED[record["arm"]]
        epochs = record["configuration"]["max_epochs"] or 1
        assert [row["epoch"] for row in record["history"]] == [*range(1, epochs + 1)]
        errors, scores = np.array(record["errors"]), []
        for fold, (_, val) in zip(record["folds"], data.folds(), strict=True):
            scores.append(np.sqrt(np.mean(errors[val] ** 2)))
            assert fold["rmse"] == pytest.approx(scores[-1], rel=1e-3)
        assert record["rmse"] == pytest.approx(np.mean(scores), rel=1e-3)
        for committed in records.load(name, record["arm"]):
            assert committed.keys() - {"note"} == record.keys()
            assert committed["folds"][0].keys() == record["folds"][0].keys()
            assert len(committed["folds"]) == 5
            # In this order, too: `records` compares configurations as text.
            full = json.dumps(FULL[record["arm"]])
            assert json.dumps(committed["configuration"]) == full


def test_settings_that_were_found_are_taken(small_housing, tmp_path, monkeypatch):
    small_housing("housing", "--arms", "dense_mlp", "ridge")
    monkeypatch.setattr(housing, "search", lambda *_: {"settings": {"alpha": 5}})
    small_housing("housing", "--arms", "dense_mlp", "--seeds", 2)
    first, second, ridge = recorded(tmp_path, "housing")
    settings = [[fold["settings"] for fold in r["folds"]] for r in (first, second)]
    assert settings[0] == settings[1] and first["errors"] != second["errors"]

    # Under torchrun the first process says what was found.
    note = json.loads(next(tmp_path.glob("runs/housing-dense*")).read_text())
    monkeypatch.setattr(Fabric, "broadcast", lambda fabric, own: own or note)
    run = Run("housing", "dense_mlp", 2, "cpu", tmp_path / "another machine's")
    found = housing.execute(run)["folds"]
    assert [fold["settings"] for fold in found] == settings[0]

    # But not for another configuration.
    monkeypatch.setitem(COMPARED, "ridge", COMPARED["ridge"] | {"trials": 1})
    found = housing.execute(Run("housing", "ridge", 0, "cpu", tmp_path / "runs"))
    assert [fold["settings"] for fold in found["folds"]] == [{"alpha": 5}] * 2
    assert ridge["folds"][0]["settings"] != {"alpha": 5}


def test_a_miniature_of_depth(small_housing, tmp_path):
    small_housing("housing_depth", "--arms", "dense_2", "residual_8", "plain_8")
    dense, plain, residual = recorded(tmp_path, "housing_depth")
    assert plain["configuration"] == DEPTHS["plain_8"]
    assert len(records.difference([dense], [plain], "rmse").values) == 2
    for record in (dense, plain, residual):
        for i, fold in enumerate(record["folds"]):  # which draws its own
            random = np.random.default_rng(i)
            space = record["configuration"]["space"]
            assert fold["settings"] in [housing.draw(space, random) for _ in range(2)]


def test_a_search_sees_no_row_but_its_own(monkeypatch):
    data, seen = AmesHousing(), []
    rows = data.train_rows[:300]

    def fit(run, settings, part, seed):
        def predict(features):
            train = data.features.index[part.train_rows]
            seen.append((set(train), set(features.index)))
            return np.zeros(len(features))

        return predict, [], None

    monkeypatch.setattr(housing, "fit", fit)
    found = housing.search(Run("housing", "ridge", 0, "cpu", None), data, rows)
    own = set(data.features.index[rows])
    assert len(seen) == 10 * 3 and found["inner_rmse"] > 11
    for train, val in seen:
        assert train | val == own and not train & val
    assert seen[:3] == seen[3:6] and set.union(*(val for _, val in seen[:3])) == own


def test_draws_lie_in_their_space_and_are_the_same_for_all_networks():
    draws = {}
    for arm, configuration in {**COMPARED, **DEPTHS}.items():
        random = np.random.default_rng(0)
        draws[arm] = [housing.draw(configuration["space"], random) for _ in range(50)]
    assert draws["dense_mlp"] == draws["plain_mlp"] == draws["residual_mlp"]
    assert draws["dense_mlp"] == draws["stem_mlp"]
    rates = [[settings["lr"] for settings in draws[arm]] for arm in DEPTHS]
    assert rates == 12 * rates[:1]
    for settings in draws["dense_mlp"]:
        assert 0.002 <= settings["lr"] <= 0.01 and settings["dropout"] in (0, 0.1, 0.2)
        assert (settings["l1"] == 0) != (settings["weight_decay"] == 0)
    assert len({settings["lr"] for settings in draws["dense_mlp"]}) > 40


@pytest.mark.parametrize("d", [250, 256])
def test_the_networks_of_exercise_5_have_as_many_parameters(d):
    cases = []
    for k, n in itertools.product((8, 32), (1, 2, 3)):
        size, target = {"growth_rate": k, "num_layers": n}, dense_parameters(d, k, n)
        cases.append(("dense_mlp", size, target, 0))
        for arm in ("plain_mlp", "residual_mlp", "stem_mlp"):
            cases.append((arm, size, target, 0.06))
    for arm, configuration in DEPTHS.items():
        size = {"num_layers": configuration["space"]["num_layers"][0]}
        assert arm.endswith(f"_{size['num_layers']}")
        cases.append((arm, size | {"parameters": 6500}, 6500, 0.04))
    for arm, size, target, tolerance in cases:
        net = perceptron(arm, d, SETTINGS | size)
        layers = net.layers if hasattr(net, "layers") else net.blocks[0]
        assert len(layers) == size["num_layers"]
        count = sum(p.numel() for p in net.parameters())
        assert count == pytest.approx(target, rel=tolerance)
        assert net(torch.zeros(2, d)).shape == (2, 1)
    linear = perceptron("linear", d, SETTINGS | {"num_layers": 0, "growth_rate": 8})
    assert linear.head.in_features == d


def test_the_residual_network_by_hand():
    size = {"growth_rate": 4, "num_layers": 2}
    net = randomise(perceptron("residual_mlp", 6, SETTINGS | size))
    X = torch.randn(3, 6, dtype=torch.float64)
    Y = net.stem(X)
    for layer in net.layers:
        Y = Y + torch.relu(layer[0](Y))
    torch.testing.assert_close(net(X), net.head(Y))


def test_a_submission(small_housing, tmp_path, monkeypatch):
    place = tmp_path / "submission.csv"
    small_housing("housing", "--source", "kaggle", "--submit", place)
    table = pd.read_csv(place)
    assert list(table) == ["Id", "SalePrice"]
    assert table["Id"].tolist() == list(range(61, 81))
    assert table["SalePrice"].between(1e4, 1e6).all()
    before = place.read_bytes()

    def fit(*_):
        return lambda features: np.full(len(features), 1e4), [], None  # exp overflows

    monkeypatch.setattr(housing, "fit", fit)
    monkeypatch.setattr(housing, "search", lambda *_: {"settings": {}})
    with np.errstate(over="ignore"), pytest.raises(ValueError, match="not a finite"):
        small_housing("housing", "--source", "kaggle", "--submit", place)
    assert place.read_bytes() == before


# Where figures come from, and the bench


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


def test_the_recorded_bench_holds_its_promises():
    recorded = json.loads(bench.RESULT.read_text("utf-8"))
    for name, entry in recorded.items():
        device = entry["device"]
        assert name == f"{device['type']}, {device['precision']}"
        assert entry["ratio"] == pytest.approx(np.median(entry["ratios"]))
        assert entry["ratio"] >= (1.7 if device["precision"] == "32-true" else 3.5)
        for task in entry["densenet_121"].values():
            assert task["ratios"]["plain"] >= 1.05


@pytest.mark.slow
def test_d2ls_way_has_a_process_of_its_own(monkeypatch):
    monkeypatch.setattr(bench, "STEPS", 1)
    assert bench.d2l_images_per_second(torch.device("cpu")) > 0
