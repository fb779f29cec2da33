"""d2l_dense/trainer.py: training, on one process and on two."""

import math
import os
import pickle
import re
import signal
import subprocess
import sys
from copy import deepcopy
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import numpy as np
import pytest
import torch
import worker
from d2l import torch as d2l
from helpers import (
    QUIET,
    Classifier,
    Pictures,
    assert_equal_states,
    at,
    by_hand,
    classifier,
    interrupt,
    run,
    without_seconds,
)
from torch import nn
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader, DistributedSampler, SubsetRandomSampler

from d2l_dense import DenseNet, Trainer, one_cycle
from d2l_dense.trainer import best_precision, to_device


def quiet(max_epochs=1, **options):
    return Trainer(max_epochs, **QUIET | options)


def halving(optimizer, num_steps):
    return LambdaLR(optimizer, lambda step: 0.5 ** (step // 3))


class Exact(d2l.Module):
    """A weight for whose steps float64 needs no rounding, on any machine."""

    def __init__(self):
        super().__init__()
        self.lr, self.w = 1 / 4, nn.Parameter(torch.ones(1, dtype=torch.float64))

    def forward(self, X):
        kept = torch.rand(len(X)) < 0.5 if self.training else torch.ones(len(X))
        return X * kept * self.w

    def loss(self, Y_hat, Y):
        return (Y_hat - Y).square().mean()


def test_the_history_is_that_of_recorded_runs():
    """Order and dropout come from torch.manual_seed(seed * 10_007 + epoch)."""
    model, data = Exact(), Pictures()
    data.X, data.y = torch.arange(12) % 3 - 1, torch.arange(12) % 4
    first, second = quiet(2, seed=5, schedule=halving).fit(model, data)
    assert (first["train_loss"], first["val_loss"]) == (4.2900390625, 3.5443115234375)
    assert second["train_loss"] == 3.6312567591667175
    assert second["val_loss"] == 3.5010188426822424
    assert model.w.item() == 0.039093017578125


def test_a_lazy_linear_regression_of_d2l():
    data = d2l.SyntheticRegressionData(torch.tensor([2.0, -3.4]), 4.2, 0.01, 200, 50)
    model = d2l.LinearRegression(lr=0.1)
    history = quiet(4).fit(model, data)
    torch.testing.assert_close(model.get_w_b()[0][0], data.w, atol=0.02, rtol=0)
    assert history[-1]["val_loss"] < 1e-3 < history[0]["train_loss"]


def test_lenet_of_d2l():
    (row,) = quiet().fit(d2l.LeNet(), Pictures(size=28))
    keys = "epoch", "lr", "train_loss", "val_loss", "val_accuracy", "seconds"
    assert tuple(row) == keys and row["seconds"] > 0
    assert all(isinstance(value, int | float) for value in row.values())


def test_our_densenet_in_channels_last():
    torch.manual_seed(0)
    model = DenseNet(4, 2, (1, 1), num_classes=3, lr=0.1, momentum=0.9)
    history = quiet(6, schedule=one_cycle).fit(model, Pictures(size=32))
    assert history[-1]["train_loss"] < history[0]["train_loss"]
    for p in model.parameters():
        assert p.dim() < 4 or p.is_contiguous(memory_format=torch.channels_last)
    to_device(nn.Conv3d(2, 2, 3), torch.device("cpu"))  # no such layout for volumes


def test_lazy_layers_are_given_shapes_and_nothing_else():
    model, trainer = Classifier(), quiet()
    model.net[1] = nn.LazyBatchNorm2d()
    trainer.prepare_data(Pictures())
    trainer.prepare_model(model)
    assert not model.net[1].running_mean.any() and model.net[1].num_batches_tracked == 0


def test_averages_count_every_example_once():
    """11 examples in batches of 4, 4 and 3, with weights that stand still."""
    model, data = classifier(lr=0, dropout=0, norm=False), Pictures()
    (row,) = quiet().fit(model, data)
    for key, value in by_hand(model, data.val_dataloader()).items():
        assert row[f"train_{key}"] == pytest.approx(value, rel=1e-6)
        assert row[f"val_{key}"] == pytest.approx(value, rel=1e-6)


def test_evaluate_equals_a_loop_by_hand_and_leaves_the_model(monkeypatch):
    model, loader, trainer = classifier(), Pictures().val_dataloader(), quiet()
    before = deepcopy(model)
    # Apple's GPU has no float64, and a reduction goes through the device.
    monkeypatch.setattr(trainer.fabric, "all_reduce", None)
    found = trainer.evaluate(model.train(), loader)
    assert found == pytest.approx(by_hand(model, loader), rel=1e-6)
    assert_equal_states(model, before)
    assert all(p.grad is None for p in model.parameters())
    assert "plot" not in vars(model)


def test_without_validation_data():
    moved, data, trainer = [], Pictures(), quiet()
    data.val_dataloader, data.to = lambda: None, moved.append
    (row,) = trainer.fit(classifier(), data)
    assert list(row) == ["epoch", "lr", "train_loss", "train_accuracy", "seconds"]
    assert moved == [trainer.device] == [torch.device("cpu")]


def test_the_schedule_is_stepped_after_each_batch():
    rates = []

    def note(trainer):
        assert trainer.model.training
        assert all(p.grad is None for p in trainer.model.parameters())
        rates.append(trainer.lr)

    history, model = run(max_epochs=2, schedule=halving, on_step=note)
    assert rates == [0.1] * 3 + [0.05] * 3 and not model.training
    assert [row["lr"] for row in history] == [0.1, 0.05]
    assert model.net[1].num_batches_tracked == 6


def test_one_cycle_rises_to_the_rate_and_falls():
    rates = []
    run(max_epochs=10, on_step=lambda trainer: rates.append(trainer.lr))
    peak = rates.index(max(rates))
    assert len(rates) == 30 and 5 < peak < 12 and max(rates) == pytest.approx(0.1)
    assert rates == sorted(rates[:peak]) + sorted(rates[peak:], reverse=True)
    assert rates[0] == pytest.approx(0.004) and rates[-1] < 1e-5


def test_the_schedule_waits_where_fp16_leaves_out_a_step(tmp_path):
    """While the scaler looks for a scale; PyTorch warns of a schedule that is ahead."""
    options = {"precision": "16-mixed", "schedule": one_cycle, "max_epochs": 4}
    rates, trainer = [], quiet(**options, checkpoint=tmp_path / "run.pt")
    precision, model = trainer.fabric.strategy.precision, classifier()
    precision.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**24)
    model.on_step = lambda: rates.append(trainer.lr)
    trainer.fit(model, Pictures())
    skipped = round(24 - math.log2(scale := precision.scaler.get_scale()))
    assert 0 < skipped < len(rates) == 12  # it is halved each time
    assert len(set(rates[: skipped + 1])) == 1 and len(set(rates)) == 12 - skipped
    precision.scaler = torch.amp.GradScaler("cpu")
    trainer.fit(classifier(), Pictures())  # from the checkpoint: nothing left to do
    assert precision.scaler.get_scale() == scale


def test_gradients_are_clipped():
    """One step of plain descent at a rate of 1 moves the weights by the gradient."""

    def distance(limit):
        model = classifier(dropout=0, lr=1.0)
        before = nn.utils.parameters_to_vector(model.parameters())
        quiet(gradient_clip_val=limit).fit(model, Pictures(batch_size=11))
        after = nn.utils.parameters_to_vector(model.parameters())
        return (before - after).norm().item()

    free = distance(0)
    assert free > 1e-2 and distance(1e6) == free
    assert distance(1e-3) == pytest.approx(1e-3, rel=1e-3)
    for limit in (-1, math.nan):
        with pytest.raises(ValueError, match=f"^gradient_clip_val={limit}: exp"):
            Trainer(**QUIET | {"gradient_clip_val": limit})


def test_the_seed_decides_order_and_dropout():
    histories = [without_seconds(run(seed=seed)[0]) for seed in (3, np.int64(3), 4)]
    assert histories[0] == histories[1] != histories[2]
    first, second = worker.order()[:11], worker.order()[11:]
    assert sorted(first) == sorted(second) == list(range(11)) and first != second


def test_a_step_that_does_not_fit(monkeypatch):
    trainer = quiet()
    advice = r"out of memory with a batch of shape \(4, 1, 8, 8\): reduce it"
    for error, kind, words in (
        ("CUDA out of memory. Tried", MemoryError, advice),
        ("Allocator: can't allocate memory", MemoryError, f"{advice} or use memory"),
        ("other", RuntimeError, "other"),
    ):
        backward = Mock(side_effect=RuntimeError(error))  # OutOfMemoryError is one
        monkeypatch.setattr(trainer.fabric, "backward", backward)
        with pytest.raises(kind, match=f"^{words}"):
            trainer.fit(classifier(), Pictures())


def spoil(trainer):
    nn.init.constant_(trainer.model.net[0].weight, math.nan)


def diverges(name, epoch, step, rate):
    """Expect that error, with its advice."""
    words = f"{name} is nan in epoch {epoch}, step {step}, at the learning rate {rate}"
    words = f"^{re.escape(words)}: lower it or set gradient_clip_val$"
    return pytest.raises(FloatingPointError, match=words)


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path):
    path, options = tmp_path / "run.pt", {"schedule": halving}
    with diverges("loss", 2, 3, 0.05):
        run(path, on_step=at(5, spoil), **options)
    assert os.listdir(tmp_path) == ["run.pt"]
    assert_same_run(run(path, weights=2, **options), run(**options))


def test_a_loss_is_looked_at_every_50_steps():
    steps, model = [], classifier()
    model.on_step = lambda: steps.append(at(30, spoil)(model.trainer))
    with diverges("loss", 1, 50, 0.1):
        quiet().fit(model, Pictures(n=240))
    assert len(steps) == 50 and "plot" not in vars(model)


def test_a_last_step_that_spoils_the_weights_is_not_saved(tmp_path):
    """Its loss was still finite: it is the validation that tells."""
    with diverges("val_loss", 1, 1, "1e+30"):
        run(tmp_path / "run.pt", lr=1e30, schedule=None, data=Pictures(n=4))
    assert not os.listdir(tmp_path)


class Divided(Pictures):
    """Pictures that are divided into rows to train on and to hold out."""

    def __init__(self, *rows):
        super().__init__()
        self.train_rows, self.val_rows = map(np.array, rows)


GIVEN = {"data": Divided([1, 2], [0])}


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The run that nothing interrupts: its history, model and checkpoint."""
    path = tmp_path_factory.mktemp("whole") / "run.pt"
    return *run(path, **GIVEN), path


def assert_same_run(found, whole):
    assert without_seconds(found[0]) == without_seconds(whole[0])
    assert_equal_states(found[1], whole[1])


@pytest.mark.parametrize("step", [0, 4, 8])
@pytest.mark.parametrize("precision", ["32-true", "64-true", "bf16-true", "bf16-mixed"])
def test_an_interrupted_run_goes_on_bit_for_bit(tmp_path, step, precision):
    """The weights and the state of the generator that it begins with do not matter."""
    path, steps, options = tmp_path / "a" / "run.pt", [], {"precision": precision}
    with pytest.raises(KeyboardInterrupt):
        run(path, on_step=at(step, interrupt), **options)
    assert path.exists() == (step >= 3)
    torch.rand(5)
    weights, note = 1 + path.exists(), lambda t: steps.append(t.train_batch_idx)
    assert_same_run(run(path, weights, on_step=note, **options), run(**options))
    assert steps == list(range(step // 3 * 3, 9))


def test_more_epochs_are_the_same_run_without_a_schedule(tmp_path):
    path = tmp_path / "run.pt"
    run(path, max_epochs=1, schedule=None)
    assert_same_run(run(path, weights=2, schedule=None), run(schedule=None))
    with pytest.raises(ValueError, match="max_epochs=2: expected a whole number, 3 or"):
        run(path, max_epochs=2, schedule=None)


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"seed": 4}, "seed is 3, this run's is 4"),
        ({"max_epochs": np.int64(2)}, "max_epochs is 3, this run's is 2"),  # scheduled
        ({"schedule": None}, "schedule is 'OneCycleLR', this run's is 'NoneType'"),
        ({"schedule": halving}, "schedule is 'OneCycleLR', this run's is 'LambdaLR'"),
        ({"precision": "64-true"}, "precision is '32-true', this run's is '64-true'"),
        ({"gradient_clip_val": 2.0}, "gradient_clip_val is 1.0, this run's is 2.0"),
        ({"lr": 0.2}, "model's lr is 0.1, this run's is 0.2"),
        ({"data": Pictures(15)}, "num_train_batches is 3, this run's is 4"),
        ({"data": Divided([2, 1], [0])}, r"data's train_rows is \[1, 2\], .* \[2, 1\]"),
        ({"data": Divided([1, 2], [3])}, r"data's val_rows is \[0\], this .* \[3\]"),
    ],
)
def test_the_checkpoint_of_another_run(whole, changes, words):
    path = whole[2]
    words = f"^{path} belongs to another run: its {words}"
    with pytest.raises(ValueError, match=words):
        run(path, **GIVEN | changes)


def test_a_finished_run_is_not_trained_again(whole):
    """NumPy's numbers and another place of the data make no other run."""
    data, path, steps = Divided([1, 2], [0]), whole[2], []
    before = path.read_bytes()
    data.hparams |= {"root": "there", "num_workers": 7, "n": np.int64(11)}
    options = {"data": data, "lr": np.float64(0.1), "gradient_clip_val": np.float64(1)}
    assert_same_run(run(path, 2, np.int64(3), steps.append, **options), whole)
    assert not steps and path.read_bytes() == before


def test_a_trained_model_is_saved_without_data_and_code():
    model = classifier()
    quiet(schedule=lambda *given: one_cycle(*given)).fit(model, Pictures())
    again = pickle.loads(pickle.dumps(pickle.loads(pickle.dumps(model))))
    assert_equal_states(again, model)
    assert again.trainer.max_epochs == 1 and not hasattr(again.trainer, "data")
    quiet().fit(again, Pictures())


def test_what_cannot_be_trained():
    data = d2l.SyntheticRegressionData(torch.tensor([2.0, -3.4]), 4.2, 0.01, 8, 8)
    with pytest.raises(TypeError, match="d2l.torch.SGD object .* is not torch.optim's"):
        quiet().fit(d2l.LinearRegressionScratch(2, lr=0.1), data)
    data.train_dataloader = lambda: DataLoader(data.X, 100, drop_last=True)
    with pytest.raises(ValueError, match="num_train_batches=0: expected .* 1 or more"):
        quiet().fit(classifier(), data)


def test_a_wrong_argument_is_named():
    for name in ("max_epochs", "seed", "accelerator"):
        for value in (-1, 1.5, True, "10", None, math.nan):
            words = f"^{name}={value!r}: expected (a|one of)"
            with pytest.raises(ValueError, match=words):
                Trainer(**QUIET | {name: value})


@pytest.mark.parametrize(
    "device, has, expected",
    [
        ("cpu", {"avx2": True, "avx512_bf16": False}, "32-true"),
        ("cpu", {"amx_bf16": True}, "bf16-mixed"),
        ("cuda", (7, 5), "16-mixed"),
        ("cuda", (8, 0), "bf16-mixed"),
        ("mps", None, "32-true"),
    ],
)
def test_the_precision_of_a_device(monkeypatch, device, has, expected):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: has, raising=False)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: has)
    assert best_precision(torch.device(device)) == expected


def test_a_line_an_epoch_or_a_bar_in_a_terminal_or_nothing(capfd, caplog, monkeypatch):
    run(max_epochs=2, progress=True)
    lines = capfd.readouterr().out.splitlines()
    assert [line.split(",")[0] for line in lines] == ["epoch 1", "epoch 2"]
    assert "train_loss " in lines[0] and "val_accuracy " in lines[0]
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    run(max_epochs=1, progress=True)
    said = capfd.readouterr()
    assert said.out == "" and "epoch 1" in said.err and "3/3" in said.err
    caplog.set_level("INFO")
    for precision in ("32-true", "bf16-mixed"):  # it says nothing of these either
        run(max_epochs=1, precision=precision)
    assert tuple(capfd.readouterr()) == ("", "") and caplog.text == ""


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    """What two processes under torchrun saw, and the folder that they wrote to."""
    folder, file = tmp_path_factory.mktemp("ranks"), Path(worker.__file__)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    # Sums are equal bit for bit only if as many threads share them.
    command += ["--nproc-per-node=2", file, folder, str(torch.get_num_threads())]
    paths = f"{file.parent.parent}{os.pathsep}{file.parent}"
    environment = os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    ranks = [torch.load(folder / f"rank{rank}.pt") for rank in (0, 1)]
    return [rank | {"folder": folder} for rank in ranks]


def test_a_killed_run_goes_on_bit_for_bit(ranks, whole):
    steps, path = [], ranks[0]["folder"] / "killed.pt"
    assert ranks[0]["killed"] == -signal.SIGKILL
    found = run(path, weights=2, on_step=lambda t: steps.append(t.train_batch_idx))
    assert_same_run(found, whole)
    assert steps == [6, 7, 8]  # the epoch that was cut short is trained anew


def test_ten_kills_at_random_moments_change_nothing(ranks, whole):
    assert -signal.SIGPROF in ranks[0]["often"]
    assert_same_run(run(ranks[0]["folder"] / "killed often.pt", weights=2), whole)


def test_processes_evaluate_each_example_once(ranks):
    """Those that the loader's sampler chooses; one example alone is seen by both."""
    alone = {n: worker.evaluate(n) for n in (11, 4, 1)}
    alone["chosen"] = worker.evaluate(11, SubsetRandomSampler(worker.CHOSEN))
    for n, (expected, seen) in alone.items():
        (averages, first), (others, second) = (rank["evaluated"][n] for rank in ranks)
        assert averages == others == pytest.approx(expected, rel=1e-6)
        assert sorted(first + second) == (sorted(seen) if n != 1 else [0, 0])
        assert abs(len(first) - len(second)) <= 1


def test_processes_train_one_model(ranks):
    """With draws of their own; and they go on, though one alone has a checkpoint."""
    first, second = ranks
    assert first["history"] == second["history"]
    model = classifier()
    for key, value in model.state_dict().items():
        assert torch.equal(first["state"][key], second["state"][key]), key
        # A bias before batch normalization has no gradient but for rounding.
        assert key.endswith("bias") or not torch.equal(first["state"][key], value), key
    model.load_state_dict(first["state"])
    for key, value in by_hand(model, Pictures().val_dataloader()).items():
        assert first["history"][-1][f"val_{key}"] == pytest.approx(value, rel=1e-6)
    assert len(first["draws"]) == 2 and not {*first["draws"]} & {*second["draws"]}
    assert first["saved"] and not second["saved"]
    for rank in ranks:
        assert rank["resumed"] == rank["history"]
        for key, value in rank["resumed state"].items():
            assert torch.equal(value, rank["state"][key]), key


def test_gradients_of_a_global_batch(ranks):
    """Two processes with batches of 8 train as one does with batches of 16."""
    alone, other = map(worker.train_in_double, (16, 8))
    for rank in ranks:
        for key, value in alone.items():
            torch.testing.assert_close(rank["double"][key], value, rtol=0, atol=1e-13)
    assert (other["net.0.weight"] - alone["net.0.weight"]).abs().max() > 1e-4


def test_processes_share_an_order_that_the_seed_decides(ranks):
    """The last of 11 examples is filled up with the first; a sampler is kept."""
    epochs = []
    for first, second in zip(*(rank["orders"][:2] for rank in ranks), strict=True):
        both = [i for pair in zip(first, second, strict=True) for i in pair]
        epochs += both[:12], both[12:]
    for epoch in epochs:
        assert sorted(epoch[:11]) == list(range(11)) and epoch[11] == epoch[0]
    assert len(set(map(tuple, epochs))) == 4
    assert {*ranks[0]["orders"][2], *ranks[1]["orders"][2]} == {*worker.CHOSEN}


@pytest.mark.parametrize("n", [1, 2, 7])
def test_fewer_examples_than_processes(n):
    """All have as many to train on; a loader that is shared out already is left."""
    trainer, shares = quiet(), []
    for rank in range(5):
        process = {"global_rank": rank, "world_size": 5, "broadcast": lambda ids: ids}
        trainer.fabric = SimpleNamespace(**process)
        loader = trainer.shard(DataLoader(range(n)), train=True)
        shares.append(torch.cat(list(loader)).tolist())
    assert [len(share) for share in shares] == [math.ceil(n / 5)] * 5
    assert {i for share in shares for i in share} == set(range(n))
    shared = DataLoader(range(n), sampler=DistributedSampler(range(n), 5, 0))
    assert trainer.shard(shared, train=True) is shared
    asked = worker.order(sampler=DistributedSampler(range(11), 1, 0))
    assert asked[:11] != asked[11:]  # it is told the epoch
