"""d2l_dense/trainer.py, engine.py and processes.py: training."""

import math
import os
import signal
import subprocess
import sys
from copy import deepcopy
from itertools import count
from pathlib import Path

import numpy as np
import pytest
import torch
from d2l import torch as d2l
from helpers import (
    QUIET,
    Classifier,
    Pictures,
    assert_equal_states,
    by_hand,
    run,
    without_seconds,
)
from lightning_fabric.plugins import MixedPrecision
from torch import nn
from torch.optim.lr_scheduler import LambdaLR, ReduceLROnPlateau
from torch.utils.data import DataLoader, TensorDataset
from worker import classifier, order, train_in_double

from d2l_dense import DenseMLP, DenseNet, Trainer, engine, loss_watch, one_cycle

WORKER = Path(__file__).with_name("worker.py")


def quiet(max_epochs=1, **options):
    return Trainer(max_epochs, **QUIET | options)


# D2L's modules


def test_a_lazy_linear_regression_of_d2l():
    torch.manual_seed(0)
    data = d2l.SyntheticRegressionData(
        w=torch.tensor([2.0, -3.4]), b=4.2, num_train=200, num_val=50
    )
    model = d2l.LinearRegression(lr=0.1)
    history = quiet(4).fit(model, data)
    w, b = model.get_w_b()
    torch.testing.assert_close(w, torch.tensor([[2.0, -3.4]]), atol=0.02, rtol=0)
    torch.testing.assert_close(b, torch.tensor([4.2]), atol=0.02, rtol=0)
    assert history[-1]["val_loss"] < 1e-3 < history[0]["train_loss"]
    assert "train_accuracy" not in history[0] and len(history) == 4


def test_lenet_of_d2l():
    torch.manual_seed(0)
    model, data = d2l.LeNet(), Pictures(size=28)
    (row,) = quiet().fit(model, data)
    # D2L's training_step reports a loss alone.
    assert list(row) == [
        "epoch", "train_loss", "val_loss", "val_accuracy", "lr", "seconds"
    ]  # fmt: skip
    assert row["val_loss"] == pytest.approx(
        by_hand(model, data.val_dataloader())["loss"]
    )


def test_our_densenet():
    torch.manual_seed(0)
    model = DenseNet(4, 2, (1, 1), num_classes=3, lr=0.1, momentum=0.9)
    data = Pictures(size=32)
    history = quiet(6, schedule=one_cycle).fit(model, data)
    assert history[-1]["train_loss"] < history[0]["train_loss"]
    assert model.net.stem[0].weight.is_contiguous(memory_format=torch.channels_last)


def test_lazy_layers_are_given_shapes_and_nothing_else():
    class Lazy(Classifier):
        def __init__(self):
            super().__init__(lr=0)
            self.net[1] = nn.LazyBatchNorm2d()

    model = Lazy()
    trainer = quiet()
    trainer.prepare_data(Pictures())
    trainer.prepare_model(model)
    assert not model.net[1].running_mean.any()
    assert model.net[1].num_batches_tracked == 0


# Averages and history


def test_averages_count_every_example_once():
    """11 examples in batches of 4, 4 and 3, with weights that stand still."""
    model, data = classifier(dropout=0, norm=False), Pictures()
    model.lr = 0
    before = deepcopy(model)
    (row,) = quiet().fit(model, data)
    assert_equal_states(model, before)
    expected = by_hand(model, data.val_dataloader())
    for split in ("train", "val"):
        assert row[f"{split}_loss"] == pytest.approx(expected["loss"], rel=1e-6)
        assert row[f"{split}_accuracy"] == pytest.approx(expected["accuracy"])
    of_batches = [
        nn.functional.cross_entropy(model.net(X), y).item()
        for X, y in data.val_dataloader()
    ]
    assert abs(sum(of_batches) / 3 - expected["loss"]) > 1e-3  # not this


def test_one_process_averages_without_its_device(monkeypatch):
    """Apple's GPU has no float64, and a reduction goes through the device."""
    trainer = quiet()
    monkeypatch.setattr(trainer.fabric, "all_reduce", None)
    (row,) = trainer.fit(classifier(), Pictures())
    assert math.isfinite(row["val_loss"])


def test_old_gradients_are_gone_before_the_forward_pass(monkeypatch):
    model, seen = classifier(), []
    step = model.training_step

    def training_step(batch):
        seen.append([p.grad for p in model.parameters()])
        return step(batch)

    monkeypatch.setattr(model, "training_step", training_step)
    quiet().fit(model, Pictures())
    assert len(seen) == 3 and all(g is None for grads in seen for g in grads)


def test_evaluate_equals_a_loop_by_hand():
    model, data = classifier(), Pictures()
    model.train()
    expected = by_hand(model, data.val_dataloader())
    found = quiet().evaluate(model, data.val_dataloader())
    assert found == pytest.approx(expected, rel=1e-6)
    assert list(found) == ["loss", "accuracy"]


def test_evaluate_leaves_weights_and_statistics():
    model = classifier()
    before = deepcopy(model)
    quiet().evaluate(model, Pictures().val_dataloader())
    assert_equal_states(model, before)
    assert not any(p.grad is not None for p in model.parameters())
    assert "plot" not in vars(model)


def test_the_history_is_a_row_an_epoch():
    history, _ = run(max_epochs=2)
    assert [row["epoch"] for row in history] == [1, 2]
    for row in history:
        assert list(row) == [
            "epoch", "train_loss", "train_accuracy", "val_loss", "val_accuracy",
            "lr", "seconds",
        ]  # fmt: skip
        assert row["seconds"] > 0
        assert all(isinstance(value, int | float) for value in row.values())


def test_without_validation_data():
    class Only(Pictures):
        def val_dataloader(self):
            return None

    (row,) = quiet().fit(classifier(), Only())
    assert list(row) == ["epoch", "train_loss", "train_accuracy", "lr", "seconds"]


@pytest.mark.parametrize("n, batch_size", [(3, 8), (8, 8), (9, 8)])
def test_small_and_uneven_data(n, batch_size):
    model = classifier(norm=False)
    (row,) = quiet().fit(model, Pictures(n, batch_size))
    assert math.isfinite(row["train_loss"]) and math.isfinite(row["val_loss"])


def test_data_without_a_batch():
    class Dropped(Pictures):
        def train_dataloader(self):
            return DataLoader(TensorDataset(self.X, self.y), 100, drop_last=True)

    with pytest.raises(ValueError, match="there is no batch to train on"):
        quiet().fit(classifier(), Dropped())


def test_data_move_to_the_device():
    class Moving(Pictures):
        def to(self, device):
            self.moved = device

    data, trainer = Moving(), quiet()
    trainer.fit(classifier(), data)
    assert data.moved == trainer.device == torch.device("cpu")


# Steps


def test_the_schedule_is_stepped_after_each_batch():
    rates = []

    def halve(optimizer, num_steps):
        assert num_steps == 6  # 2 epochs of 3 batches
        return LambdaLR(optimizer, lambda step: 0.5**step)

    def note(trainer):
        rates.append(trainer.optim.param_groups[0]["lr"])

    history, _ = run(max_epochs=2, schedule=halve, on_step=note)
    assert rates == pytest.approx([0.1 * 0.5**step for step in range(6)])
    assert [row["lr"] for row in history] == pytest.approx([0.1, 0.0125])


def test_one_cycle_rises_to_the_rate_and_falls():
    rates = []
    run(max_epochs=10, on_step=lambda t: rates.append(t.optim.param_groups[0]["lr"]))
    peak = rates.index(max(rates))
    assert len(rates) == 30 and 5 < peak < 12
    assert max(rates) == pytest.approx(0.1)
    assert rates == sorted(rates[:peak]) + sorted(rates[peak:], reverse=True)
    assert rates[0] == pytest.approx(0.004) and rates[-1] < 1e-5


def test_without_a_schedule_the_rate_stands():
    history, _ = run(max_epochs=2, schedule=None)
    assert [row["lr"] for row in history] == [0.1, 0.1]


@pytest.mark.parametrize("limit, moved", [(0, None), (1e-3, 1e-3), (1e6, None)])
def test_gradients_are_clipped(limit, moved):
    """One step of plain descent at a rate of 1 moves the weights by the gradient."""

    class Descent(Classifier):
        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), 1.0)

    def distance(limit):
        torch.manual_seed(1)
        model, data = Descent(dropout=0), Pictures(batch_size=11)
        model(data.X)
        before = [p.detach().clone() for p in model.parameters()]
        quiet(gradient_clip_val=limit).fit(model, data)
        both = zip(before, model.parameters(), strict=True)
        return torch.cat([(a - b).flatten() for a, b in both]).norm().item()

    assert distance(limit) == pytest.approx(moved or distance(0), rel=1e-3)


def test_training_is_in_training_mode():
    modes = []
    _, model = run(max_epochs=2, on_step=lambda t: modes.append(t.model.training))
    assert modes == [True] * 6 and not model.training
    assert model.net[1].num_batches_tracked == 6


def test_every_epoch_has_an_order_of_its_own():
    first, second = order(seed=0)[:11], order(seed=0)[11:]
    assert sorted(first) == sorted(second) == list(range(11)) and first != second


def test_the_seed_decides_order_and_dropout():
    histories = [without_seconds(run(seed=seed)[0]) for seed in (3, 3, 4)]
    assert histories[0] == histories[1] != histories[2]


# Losses that are not finite


def spoil(epoch, batch):
    """A step that makes the weights nan, and so the loss after it."""

    def on_step(trainer):
        if trainer.train_batch_idx == (epoch - 1) * 3 + batch - 1:
            with torch.no_grad():
                trainer.model.net[0].weight.fill_(math.nan)

    return on_step


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path):
    path = tmp_path / "run.pt"
    spoilt, kept = spoil(epoch=2, batch=3), []

    def on_step(trainer):
        if trainer.epoch == 1:
            kept.append(path.read_bytes())
        spoilt(trainer)

    words = (
        "the loss is nan in epoch 2, step 3, at a learning rate of 0.0125; "
        f"{path} holds the last good epoch. A lower rate or gradient_clip_val may help"
    )
    with pytest.raises(FloatingPointError, match=f"^{words}$"):
        run(path, schedule=falling, on_step=on_step)
    assert kept[0] == path.read_bytes() and len(kept) == 3
    assert os.listdir(tmp_path) == ["run.pt"]
    # What it holds is the end of epoch 1, from which the run can go on.
    history, _ = run(path, schedule=falling)
    whole, _ = run(schedule=falling)
    assert without_seconds(history) == without_seconds(whole)


def falling(optimizer, num_steps):
    return LambdaLR(optimizer, lambda step: 1 if step < 5 else 0.125)


def test_a_loss_that_is_not_finite_is_seen_within_a_second(monkeypatch):
    monkeypatch.setattr(loss_watch.time, "monotonic", count(0, 2).__next__)
    steps = []

    def on_step(trainer):
        steps.append(trainer.train_batch_idx)
        spoil(epoch=1, batch=2)(trainer)

    with pytest.raises(
        FloatingPointError, match="epoch 1, step 2, at .* of 0.1. A low"
    ):
        run(schedule=None, on_step=on_step)
    assert steps == [0, 1]  # the third batch is not trained on


def test_no_checkpoint_is_named_that_is_not_there(tmp_path):
    with pytest.raises(FloatingPointError) as error:
        run(tmp_path / "run.pt", on_step=spoil(epoch=1, batch=1))
    assert "run.pt" not in str(error.value)


def test_plot_is_given_back_after_an_error():
    model = classifier()
    model.on_step = lambda: spoil(1, 1)(model.trainer)
    with pytest.raises(FloatingPointError):
        quiet().fit(model, Pictures())
    assert "plot" not in vars(model)


# Going on after an interruption


@pytest.fixture(scope="module")
def whole():
    """The run that nothing interrupts: its history and model."""
    return run()


def assert_same_run(found, whole):
    assert without_seconds(found[0]) == without_seconds(whole[0])
    assert_equal_states(found[1], whole[1])


@pytest.mark.parametrize("step", [0, 3, 4, 8])
def test_an_interrupted_run_goes_on_bit_for_bit(tmp_path, whole, step):
    def stop(trainer):
        if trainer.train_batch_idx == step:
            raise KeyboardInterrupt

    path = tmp_path / "run.pt"
    with pytest.raises(KeyboardInterrupt):
        run(path, on_step=stop)
    assert path.exists() == (step >= 3)
    steps = []
    torch.rand(5)  # the state of the generator does not matter
    found = run(path, weights=2, on_step=lambda t: steps.append(t.train_batch_idx))
    if step >= 3:
        assert_same_run(found, whole)
        assert steps == list(range(step // 3 * 3, 9))


def test_a_killed_run_goes_on_bit_for_bit(tmp_path, whole):
    path = tmp_path / "run.pt"
    command = [sys.executable, str(WORKER), "killed", str(path), "7"]
    # Sums are equal bit for bit only if as many threads share them.
    threads = torch.get_num_threads()
    done = subprocess.run(command, env=environment(threads), timeout=900)
    assert done.returncode == -signal.SIGKILL
    assert os.listdir(tmp_path) == ["run.pt"]
    steps = []
    found = run(path, weights=2, on_step=lambda t: steps.append(t.train_batch_idx))
    assert_same_run(found, whole)
    assert steps == [6, 7, 8]  # the epoch that was cut short is trained anew


def test_a_finished_run_is_not_trained_again(tmp_path, whole):
    path = tmp_path / "run.pt"
    run(path)
    before, steps = path.read_bytes(), []
    found = run(path, weights=2, on_step=steps.append)
    assert_same_run(found, whole)
    assert steps == [] and path.read_bytes() == before


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"seed": 4}, "its seed is 3, this run's is 4"),
        ({"max_epochs": 4}, "its steps is 9, this run's is 12"),
        ({"schedule": None}, "its schedule is .*, this run's is 'NoneType'"),
        ({"lr": 0.2}, "its model's lr is 0.1, this run's is 0.2"),
        (
            {"schedule": falling},
            "its schedule is 'OneCycleLR', .* 'LambdaLR'",
        ),
        ({"precision": "64-true"}, "its precision is '32-true', this run's is '64-tr"),
        ({"gradient_clip_val": 2.0}, "its gradient_clip_val is 1.0, this run's is 2.0"),
    ],
)
def test_the_checkpoint_of_another_run(tmp_path, monkeypatch, changes, words):
    path = tmp_path / "run.pt"
    run(path)
    if "lr" in changes:
        monkeypatch.setattr(Classifier.__init__, "__defaults__", (0.2, 0.2, True))
        changes = {}
    with pytest.raises(ValueError, match=f"^{path} belongs to another run: .*{words}"):
        run(path, **changes)


def test_the_checkpoint_of_other_data(tmp_path):
    """The same number of steps, and of parameters."""
    path = tmp_path / "run.pt"
    run(path)
    trainer = quiet(3, schedule=one_cycle, seed=3, checkpoint=path, gradient_clip_val=1)
    with pytest.raises(ValueError, match="its data's size is 8, this run's is 9"):
        trainer.fit(classifier(), Pictures(size=9))


@pytest.mark.parametrize("schedule", [None, one_cycle])
def test_a_run_with_numpys_numbers_goes_on(tmp_path, schedule):
    rates = dict.fromkeys(("lr", "momentum", "weight_decay"), 0.01)
    histories = []
    for number in (np.float64, float):  # the same run, and the same numbers
        options = {k: number(v) for k, v in rates.items()} | {"arch": (1, 1)}
        model = DenseNet(4, 2, compression=number(0.5), num_classes=3, **options)
        given = {"seed": np.int64(3), "gradient_clip_val": number(1)}
        trainer = quiet(schedule=schedule, checkpoint=tmp_path / "run.pt", **given)
        histories.append(trainer.fit(model, Pictures()))
    assert histories[0] == histories[1]  # its seconds too: it was not trained again


@pytest.mark.parametrize("schedule", [None, one_cycle])
def test_the_perceptron_takes_numpys_numbers(tmp_path, schedule):
    model = DenseMLP(2, arch=(1,), lr=np.float64(0.01), weight_decay=np.float32(0.5))
    data = d2l.SyntheticRegressionData(w=torch.ones(2), b=0.0, num_train=8, num_val=8)
    trainer = quiet(schedule=schedule, checkpoint=tmp_path / "run.pt")
    assert trainer.fit(model, data) == trainer.fit(model, data)


def test_where_the_data_lie_makes_no_other_run(tmp_path):
    histories = []
    for root in ("here", "there"):
        data = Pictures()
        data.hparams = data.hparams | {"root": root, "num_workers": len(root)}
        trainer = quiet(1, checkpoint=tmp_path / "run.pt")
        histories.append(trainer.fit(classifier(), data))
    assert histories[0] == histories[1]  # its seconds too: it was not trained again


def test_a_last_step_that_spoils_the_weights_is_not_saved(tmp_path):
    """Its loss was still finite: it is the validation that tells."""
    path, model = tmp_path / "run.pt", classifier()
    model.lr = 1e30
    words = r"^val_loss is nan after epoch 1, at a learning rate of 1e\+30\. A lower"
    with pytest.raises(FloatingPointError, match=words):
        quiet(2, checkpoint=path).fit(model, Pictures(n=4))  # one step an epoch
    assert not path.exists()


def test_the_checkpoint_of_another_model(tmp_path):
    path = tmp_path / "run.pt"
    run(path)
    words = f"^{path} belongs to another run: its model is 'Classifier', .* 'LeNet'"
    with pytest.raises(ValueError, match=words):
        trainer = quiet(3, schedule=one_cycle, seed=3, checkpoint=path)
        trainer.fit(d2l.LeNet(), Pictures(size=28))


def test_the_scale_of_half_precision_goes_on(tmp_path):
    """On older GPUs, in fp16, the loss is scaled: what was found is kept."""

    def trained():
        trainer = quiet(2, checkpoint=tmp_path / "run.pt")
        scaler = torch.amp.GradScaler("cpu", init_scale=8.0, growth_interval=1)
        precision = MixedPrecision("16-mixed", "cpu", scaler)
        trainer.fabric.strategy.precision = trainer.fabric._precision = precision
        trainer.fit(d2l.LeNet(num_classes=3), Pictures(size=28))
        return scaler.get_scale()

    scale = trained()
    assert scale == 8.0 * 2**6  # doubled after each of six steps
    assert trained() == scale  # from the checkpoint, with nothing left to do


def test_a_checkpoint_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="cannot write to .*file: "):
        run(tmp_path / "file" / "run.pt")


# What is refused


def test_an_optimizer_that_is_not_torchs():
    data = d2l.SyntheticRegressionData(
        w=torch.tensor([2.0, -3.4]), b=4.2, num_train=8, num_val=8
    )
    words = (
        "^LinearRegressionScratch.configure_optimizers returned d2l.torch.SGD; "
        "expected one torch.optim.Optimizer$"
    )
    with pytest.raises(TypeError, match=words):
        quiet().fit(d2l.LinearRegressionScratch(2, lr=0.1), data)


def test_more_than_one_optimizer():
    class Two(Classifier):
        def configure_optimizers(self):
            return [super().configure_optimizers()]

    with pytest.raises(
        TypeError, match="Two.configure_optimizers returned builtins.list"
    ):
        quiet().fit(Two(), Pictures())


nan = math.nan


@pytest.mark.parametrize(
    "name, values, allowed",
    [
        ("max_epochs", [0, -1, 1.5, True, "10", None], "a whole number, 1 or more"),
        ("gradient_clip_val", [-1, nan, "1", None], ">= 0"),
        ("seed", [-1, 0.5, nan, "0", None, 2**64, 2**50], "0, 1, 2, ... below"),
        ("checkpoint", [3, True, b"run.pt"], "the path of a file, or None"),
        ("schedule", ["one_cycle", 3, True], "a function of an optimizer and the num"),
        ("accelerator", ["nonsense", "gpu", "", None], "one that is here: auto, cpu"),
    ],
)
def test_a_wrong_argument_is_named(name, values, allowed):
    for value in values:
        with pytest.raises(ValueError, match=f"expected {allowed}") as error:
            Trainer(**QUIET | {name: value})
        assert f"{name}={value!r}" in str(error.value)


def test_the_largest_seed_has_its_epochs():
    history = quiet(2, seed=2**50 - 1).fit(Classifier(), Pictures())
    assert len(history) == 2


def test_what_is_no_model_or_no_data_is_named():
    model, data = Classifier(), Pictures()
    for pair in ((data, model), (nn.Linear(1, 1), data), (model, [1])):
        names = ", ".join(type(one).__name__ for one in pair)
        words = rf"fit\({names}\): expected a d2l.Module and a d2l.DataModule"
        with pytest.raises(TypeError, match=words):
            quiet().fit(*pair)
    for pair in ((data.val_dataloader(), model), (model, data), (model, None)):
        names = ", ".join(type(one).__name__ for one in pair)
        words = rf"evaluate\({names}\): expected a d2l.Module and a DataLoader, such"
        with pytest.raises(TypeError, match=words):
            quiet().evaluate(*pair)


def test_a_device_that_is_not_here(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="^accelerator='cuda': expected one that is h"):
        Trainer(accelerator="cuda")


def test_a_precision_that_a_cpu_has_not():
    with pytest.warns(UserWarning, match="fp16 is not supported on CPU. Using"):
        trainer = Trainer(**QUIET | {"precision": "16-mixed"})
    assert trainer.precision == "bf16-mixed"


def test_a_precision_that_is_none():
    words = "Precision 'nonsense' is invalid. Allowed precision values: .*'32-true'"
    with pytest.raises(ValueError, match=words):
        Trainer(**QUIET | {"precision": "nonsense"})


# Devices and precisions


def test_a_trainer_says_nothing_of_its_precision():
    """A notebook's output would depend on the hardware."""
    code = "import d2l_dense; d2l_dense.Trainer(accelerator='cpu', precision={!r})"
    for precision in ("32-true", "bf16-mixed"):
        command = [sys.executable, "-W", "error", "-c", code.format(precision)]
        done = subprocess.run(command, capture_output=True, text=True)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize(
    "capabilities, precision",
    [
        ({"avx2": True}, "32-true"),
        ({"avx512_bf16": False, "amx_bf16": False}, "32-true"),
        ({"avx512_bf16": True}, "bf16-mixed"),
        ({"amx_bf16": True}, "bf16-mixed"),
        ({"bf16": True}, "bf16-mixed"),
    ],
)
def test_a_cpu_takes_bf16_if_it_multiplies_it(monkeypatch, capabilities, precision):
    monkeypatch.setattr(
        torch.cpu, "get_capabilities", lambda: capabilities, raising=False
    )
    assert Trainer(accelerator="cpu", progress=False).precision == precision


@pytest.mark.parametrize(
    "capability, precision",
    [((7, 5), "16-mixed"), ((8, 0), "bf16-mixed"), ((9, 0), "bf16-mixed")],
)
def test_an_older_gpu_takes_fp16(monkeypatch, capability, precision):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert engine.best_precision(torch.device("cuda")) == precision
    assert engine.best_precision(torch.device("mps")) == "32-true"


@pytest.mark.parametrize(
    "precision, weights",
    [
        ("bf16-mixed", torch.float32),
        ("64-true", torch.float64),
        ("bf16-true", torch.bfloat16),
    ],
)
def test_other_precisions_train_and_evaluate(precision, weights):
    model = classifier()
    (row,) = quiet(precision=precision).fit(model, Pictures())
    assert math.isfinite(row["train_loss"]) and math.isfinite(row["val_loss"])
    assert {p.dtype for p in model.parameters()} == {weights}


# What it says


def test_a_line_an_epoch(capsys):
    run(max_epochs=2, progress=True)
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(",")[0] for line in lines] == ["epoch 1", "epoch 2"]
    assert "train_loss " in lines[0] and "val_accuracy " in lines[0]


def test_a_bar_in_a_terminal(capsys, monkeypatch):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    run(max_epochs=1, progress=True)
    said = capsys.readouterr()
    assert said.out == "" and "epoch 1" in said.err and "3/3" in said.err


def test_progress_can_be_quiet(capsys):
    run(max_epochs=1, progress=False)
    said = capsys.readouterr()
    assert said.out == said.err == ""


# Two processes


def environment(threads=1):
    folders = str(WORKER.parent.parent), str(WORKER.parent)
    paths = os.pathsep.join((*folders, os.environ.get("PYTHONPATH", "")))
    return os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": str(threads)}


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    """What two processes under torchrun saw."""
    folder = tmp_path_factory.mktemp("ranks")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node", "2", str(WORKER), str(folder)]
    done = subprocess.run(
        command, env=environment(), timeout=1200, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return [torch.load(folder / f"rank{rank}.pt") for rank in (0, 1)]


def test_processes_evaluate_each_example_once(ranks):
    for n, seen in ((11, list(range(11))), (4, list(range(4))), (1, [0, 0])):
        averages, examples = zip(
            *(rank["evaluations"][n] for rank in ranks), strict=True
        )
        assert sorted(examples[0] + examples[1]) == seen
        assert abs(len(examples[0]) - len(examples[1])) <= 1
        loader = Pictures(n, batch_size=2).val_dataloader()
        alone = quiet().evaluate(classifier(norm=False), loader)
        assert averages[0] == averages[1] == pytest.approx(alone, rel=1e-6)


def test_processes_train_one_model(ranks):
    first, second = ranks
    assert first["history"] == second["history"]
    weights = [name for name in first["trained"] if "running" not in name]
    for key in weights:
        assert torch.equal(first["trained"][key], second["trained"][key]), key
    start = classifier().state_dict()
    # A bias before batch normalization has no gradient but for rounding.
    moved = [name for name in weights if name.endswith("weight")]
    assert not any(torch.equal(first["trained"][k], start[k]) for k in moved)


def test_processes_evaluate_with_the_same_statistics(ranks):
    """After the last step each has batch statistics of its own; one set counts."""
    first, second = ranks
    for key, value in first["agreed"].items():
        assert torch.equal(value, second["agreed"][key]), key
    model = classifier()
    model.load_state_dict(first["agreed"])
    expected = by_hand(model, Pictures().val_dataloader())
    assert first["evaluated"] == second["evaluated"]
    assert first["evaluated"] == pytest.approx(expected, rel=1e-6)
    last = {f"val_{key}": value for key, value in expected.items()}
    assert (
        last.items()
        <= {
            key: pytest.approx(value, rel=1e-6)
            for key, value in first["history"][-1].items()
        }.items()
    )


def test_gradients_of_a_global_batch(ranks):
    """Two processes with batches of 4 train as one does with batches of 8.

    In float64 and with fixed statistics, over two epochs of two steps.
    """
    alone = train_in_double(batch_size=8)
    for rank in ranks:
        for key, value in alone.items():
            torch.testing.assert_close(rank["double"][key], value, rtol=0, atol=1e-13)
    other = train_in_double(batch_size=4)
    assert (other["net.0.weight"] - alone["net.0.weight"]).abs().max() > 1e-4


def test_processes_go_on_bit_for_bit(ranks):
    for rank in ranks:
        assert rank["stopped"]
        assert rank["resumed history"] == rank["history"]
        for key, value in rank["resumed"].items():
            if "running" not in key:
                assert torch.equal(value, rank["trained"][key]), key


def test_processes_share_an_order_that_the_seed_decides(ranks):
    for seed in (0, 1):
        first, second = (rank["orders"][seed] for rank in ranks)
        assert len(first) == len(second) == 12  # two epochs of 6
        both = [i for pair in zip(first, second, strict=True) for i in pair]
        for epoch in (both[:12], both[12:]):
            assert sorted(set(epoch)) == list(range(11)) and epoch[11] == epoch[0]
        assert both[:12] != both[12:]
        assert both[:11] + both[12:23] == order(seed)  # as one process does
    assert ranks[0]["orders"][0] != ranks[0]["orders"][1]


def test_a_trained_model_is_saved_without_its_trainers_data(tmp_path):
    model, data = Classifier(), Pictures()
    quiet().fit(model, data)
    torch.save(model, tmp_path / "model.pt")
    again = torch.load(tmp_path / "model.pt", weights_only=False)
    assert again.trainer.max_epochs == 1 and not hasattr(
        again.trainer, "train_dataloader"
    )
    torch.save(again, tmp_path / "again.pt")
    quiet().fit(again, data)


def test_a_trained_model_is_saved_without_its_schedule(tmp_path):
    model = Classifier()
    quiet(schedule=lambda *given: one_cycle(*given)).fit(model, Pictures())
    torch.save(model, tmp_path / "model.pt")
    again = torch.load(tmp_path / "model.pt", weights_only=False)
    assert_equal_states(again, model)


def test_a_schedule_that_needs_a_figure_is_refused():
    def plateau(optimizer, num_steps):
        return ReduceLROnPlateau(optimizer)

    words = "schedule returned a ReduceLROnPlateau: expected .* after each batch"
    with pytest.raises(TypeError, match=words):
        quiet(schedule=plateau).fit(Classifier(), Pictures())


def test_a_schedule_that_returns_nothing_is_refused():
    with pytest.raises(TypeError, match="schedule returned None: expected a scheduler"):
        quiet(schedule=lambda *_: None).fit(Classifier(), Pictures())
