"""d2l_dense/checkpoint.py: files that survive a kill and refuse a mistake."""

import errno
import os
import pickle

import numpy as np
import pytest
import torch
from d2l import torch as d2l
from helpers import QUIET, Pictures, assert_equal_states, classifier
from hypothesis import given, settings
from hypothesis import strategies as st

from d2l_dense import Trainer
from d2l_dense.checkpoint import FORMAT, identity, load, save

RUN = {"seed": 1, "arch": [1, [2, 3]], "rows": list(range(100)), "stem": None}
HISTORY = [{"epoch": 1, "train_loss": 0.5}, {"epoch": 2, "train_loss": 0.25}]


def parts(steps=1):
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1)
    for _ in range(steps):
        model(torch.randn(4, 3)).square().sum().backward()
        optimizer.step()
        schedule.step()
    return {"model": model, "optimizer": optimizer, "schedule": schedule}


@pytest.fixture
def path(tmp_path):
    """A checkpoint that was saved."""
    save(tmp_path / "run.pt", RUN, HISTORY, parts())
    return tmp_path / "run.pt"


def test_there_and_back(path):
    found, inside, other = load(path, RUN), parts(), parts(steps=0)
    assert (found["run"], found["history"]) == (RUN, HISTORY)
    for name, part in other.items():
        part.load_state_dict(found["state"][name])
    assert_equal_states(other["model"], inside["model"])
    assert other["schedule"].state_dict() == inside["schedule"].state_dict()
    momentum, expected = (p["optimizer"].state_dict()["state"] for p in (other, inside))
    assert len(momentum) == 4
    torch.testing.assert_close(momentum, expected, rtol=0, atol=0)


def test_no_file_is_a_new_run_whose_folder_is_made(tmp_path):
    path = tmp_path / "a" / "b" / "run.pt"
    assert load(path, RUN) is None and path.parent.is_dir()
    for _ in range(2):
        save(path, RUN, HISTORY, parts())
    assert os.listdir(path.parent) == ["run.pt"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The bytes of a checkpoint, a place to put spoilt ones, and what is in it."""
    path = tmp_path_factory.mktemp("spoilt") / "run.pt"
    save(path, RUN, HISTORY, parts())
    return path.read_bytes(), path, str(load(path, RUN))  # so small: every number


@settings(max_examples=40)
@given(share=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_a_cut_file_is_refused_and_a_flipped_bit_is_seen_or_harmless(whole, share, bit):
    data, path, expected = whole
    place = int(share * len(data))
    words = f"^{path} is damaged, or is no '{FORMAT}'. Delete it to start anew, or name"
    path.write_bytes(data[:place])
    with pytest.raises(ValueError, match=words):
        load(path, RUN)
    damaged = bytearray(data)
    damaged[place] ^= 1 << bit
    path.write_bytes(damaged)
    try:
        assert str(load(path, RUN)) == expected
    except ValueError as error:
        assert str(path) in str(error)


class Code:
    def __reduce__(self):
        return (os._exit, (1,))


CODE = {"format": FORMAT, "run": RUN, "x": Code()}


@pytest.mark.parametrize("content", [CODE, {"w": torch.ones(2)}, [1], {"format": "x"}])
@pytest.mark.parametrize("how", [pickle.dump, torch.save])
def test_other_content_is_refused_and_code_does_not_run(tmp_path, how, content):
    path = tmp_path / "run.pt"
    with open(path, "wb") as file:
        how(content, file)
    with pytest.raises(ValueError, match=f"^{path} is damaged, or is no '{FORMAT}'"):
        load(path, RUN)


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"seed": 2, "stem": 8}, "seed is 1, this run's is 2"),
        ({"another": 3, "arch": [1]}, r"arch is \[1, \[2, 3\]\], this run's is \[1\]"),
        ({"another": 3}, "another is None, this run's is 3"),
        ({"rows": [0]}, r"rows is \[0, 1, 2[^\]]{,75}, this run's is \[0\]"),
    ],
)
def test_another_run_is_refused(path, changes, words):
    """It names the first key that differs, and as much of both values as is read."""
    words = f"^{path} belongs to another run: its {words}. Delete it to start anew, or "
    with pytest.raises(ValueError, match=words):
        load(path, RUN | changes)


def test_what_could_not_be_read_again_is_not_saved(path):
    old = path.read_bytes()
    with pytest.raises(TypeError, match=f"^{path} could not be read again: .*numpy"):
        save(path, RUN, [{"epoch": 1, "lr": np.float64(0.5)}], parts())
    assert path.read_bytes() == old


def test_a_full_disk_leaves_the_old_file(path, monkeypatch):
    def full(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    old = path.read_bytes()
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=f"cannot write {path}: No space left on device"):
        save(path, RUN, [], parts())
    assert path.read_bytes() == old and os.listdir(path.parent) == [path.name]


def test_a_place_that_cannot_be_written_is_seen_before_the_work(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=f"cannot write {tmp_path / 'file'}/.writable: "):
        load(tmp_path / "file" / "run.pt", RUN)


def told(model=None, data=None):
    model, data, trainer = model or classifier(), data or Pictures(), Trainer(**QUIET)
    trainer.num_train_batches = 1
    optimizer = model.configure_optimizers()
    return identity(trainer, data=data, model=model, optimizer=optimizer)


def test_what_tells_a_run_from_another():
    """Arguments, shapes and rows; but not what leads to the same numbers."""
    model, data = classifier(lr=np.float64(0.1)), Pictures(n=np.int64(11))
    data.hparams |= {"root": "there", "num_workers": 7, "memory": "shared"}
    run = told()
    assert run["model's lr"] == 0.1
    assert run["model's net.0.weight.shape"] == [4, 1, 3, 3]
    assert told(model, data) == run
    data.hparams["n"] = (1, (2,))  # a tuple is as good as a list
    data.train_rows, data.val_rows = np.arange(3), [3, 4]
    rows = {"data's train_rows": [0, 1, 2], "data's val_rows": [3, 4]}
    assert told(data=data) == run | rows | {"data's n": [1, [2]]}
    groups = [{"params": [p], "lr": i} for i, p in enumerate(model.parameters())]
    model.configure_optimizers = lambda: torch.optim.SGD(groups, 0.1, momentum=0.9)
    assert told(model) != run
    one, two = (d2l.SyntheticRegressionData(torch.ones(2) * i, b=0.0) for i in (1, 2))
    assert told(data=one) != told(data=two)
