"""d2l_dense/checkpoint.py: files that survive a kill and refuse a mistake."""

import errno
import io
import os
import pickle
import resource
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import assert_equal_states
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from d2l_dense import checkpoint
from d2l_dense.checkpoint import Checkpoint, replace_file

RUN = {"model": "Net", "steps": 30, "seed": 1, "parameters": 12}
HISTORY = [{"epoch": 1, "train_loss": 0.5}, {"epoch": 2, "train_loss": 0.25}]


def parts():
    model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, 0.1, total_steps=30, cycle_momentum=False
    )
    for _ in range(3):
        model(torch.randn(4, 3)).square().sum().backward()
        optimizer.step()
        schedule.step()
    return {"model": model, "optimizer": optimizer, "schedule": schedule}


@pytest.fixture
def saved(tmp_path):
    """A checkpoint that was saved, and the parts that are in it."""
    inside = parts()
    place = Checkpoint(tmp_path / "run.pt", RUN, **inside)
    place.save(HISTORY)
    return place, inside


def test_there_and_back(saved):
    place, inside = saved
    others = parts()
    history = Checkpoint(place.path, dict(RUN), **others).restore()
    assert history == HISTORY
    assert_equal_states(others["model"], inside["model"])
    assert others["schedule"].state_dict() == inside["schedule"].state_dict()
    momentum, expected = (
        [s["momentum_buffer"] for s in p["optimizer"].state_dict()["state"].values()]
        for p in (others, inside)
    )
    assert len(momentum) == 4
    assert all(map(torch.equal, momentum, expected))


def test_no_file_is_a_new_run(tmp_path):
    others = parts()
    before = deepcopy(others["model"])
    assert Checkpoint(tmp_path / "none.pt", RUN, **others).restore() == []
    assert_equal_states(others["model"], before)


def test_folders_are_made_and_nothing_else_lies_there(tmp_path):
    place = Checkpoint(tmp_path / "a" / "b" / "run.pt", RUN, **parts())
    place.save(HISTORY)
    place.save(HISTORY)
    assert os.listdir(tmp_path / "a" / "b") == ["run.pt"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The bytes of a checkpoint, and a place to put spoilt ones."""
    place = Checkpoint(tmp_path_factory.mktemp("cut") / "run.pt", RUN, **parts())
    place.save(HISTORY)
    return place.path.read_bytes(), place


@settings(max_examples=40)
@given(share=st.floats(0, 1, exclude_max=True))
def test_a_cut_file_is_refused(whole, share):
    data, place = whole
    place.path.write_bytes(data[: int(len(data) * share)])
    words = f"^{place.path} is cut, damaged or no checkpoint.*Delete it to start anew"
    with pytest.raises(ValueError, match=words):
        place.restore()


class Code:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (os.mkdir, (self.path,))


@pytest.mark.parametrize("how", [pickle.dump, torch.save])
def test_code_in_a_file_does_not_run(tmp_path, how):
    path, trace = tmp_path / "run.pt", tmp_path / "trace"
    with open(path, "wb") as file:
        how({"format": checkpoint.FORMAT, "run": RUN, "x": Code(str(trace))}, file)
    with pytest.raises(ValueError, match=f"^{path} is cut, damaged or no checkpoint"):
        Checkpoint(path, RUN, **parts()).restore()
    assert not trace.exists()


@pytest.mark.parametrize(
    "data",
    [b"", b"hello\n", b"\x80", b"PK\x03\x04" + bytes(40), b"PK\x05\x06" + bytes(18)],
)
def test_other_files_are_refused(tmp_path, data):
    path = tmp_path / "run.pt"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=f"^{path} is cut, damaged or no checkpoint"):
        Checkpoint(path, RUN, **parts()).restore()
    assert path.read_bytes() == data


@pytest.mark.parametrize(
    "content",
    [{"weight": torch.zeros(2)}, [1, 2], torch.zeros(3), {"format": "another"}],
)
def test_other_content_is_refused(tmp_path, content):
    path = tmp_path / "run.pt"
    torch.save(content, path)
    with pytest.raises(ValueError, match=f"^{path} is not a 'd2l_dense checkpoint, v"):
        Checkpoint(path, RUN, **parts()).restore()


@pytest.mark.parametrize(
    "key, value", [("seed", 2), ("model", "Other"), ("steps", 60), ("parameters", 13)]
)
def test_another_run_is_refused(saved, key, value):
    place, _ = saved
    others = parts()
    before = deepcopy(others["model"])
    words = (
        f"^{place.path} belongs to another run: its {key} is {RUN[key]!r}, "
        f"this run's is {value!r}. Delete it to start anew, or name another"
    )
    with pytest.raises(ValueError, match=words):
        Checkpoint(place.path, {**RUN, key: value}, **others).restore()
    assert_equal_states(others["model"], before)


@pytest.mark.parametrize("kind, other", [(list, tuple), (tuple, list)])
def test_a_list_and_a_tuple_are_the_same_run(tmp_path, kind, other):
    run, same = ({**RUN, "arch": k((1, k((2, 3))))} for k in (kind, other))
    place, path = parts(), tmp_path / "run.pt"
    Checkpoint(path, run, **place).save(HISTORY)
    assert Checkpoint(path, same, **place).restore() == HISTORY
    with pytest.raises(ValueError, match="its arch is .*, this run's is"):
        Checkpoint(path, {**RUN, "arch": other((1, 2, 3))}, **place).restore()


def test_other_parts_are_refused(saved):
    place, inside = saved
    del inside["schedule"]
    words = "it holds model, optimizer, schedule, this run needs model, optimizer"
    with pytest.raises(ValueError, match=words):
        Checkpoint(place.path, RUN, **inside).restore()


def test_weights_of_another_shape_are_refused(saved):
    place, inside = saved
    inside["model"] = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    words = f"^{place.path} does not fit this run's model .*size mismatch"
    with pytest.raises(ValueError, match=words):
        Checkpoint(place.path, RUN, **inside).restore()


def test_another_optimizer_is_refused(saved):
    place, inside = saved
    inside["optimizer"] = torch.optim.SGD([torch.zeros(2)], 0.1)
    with pytest.raises(ValueError, match=f"^{place.path} does not fit this run's opti"):
        Checkpoint(place.path, RUN, **inside).restore()


@pytest.mark.parametrize(
    "value, words",
    [(np.float64(0.5), r"numpy\..*scalar"), (Path("x"), r"pathlib\.\w+Path")],
)
def test_what_could_not_be_read_again_is_not_saved(saved, value, words):
    place, _ = saved
    old = place.path.read_bytes()
    with pytest.raises(TypeError, match=f"^{place.path} could not be read .*{words}"):
        place.save([{"epoch": 1, "lr": value}])
    assert place.path.read_bytes() == old
    others = parts()
    others["optimizer"].param_groups[0]["lr"] = value
    with pytest.raises(TypeError, match=f"could not be read .*{words}"):
        Checkpoint(place.path.with_name("other.pt"), RUN, **others).restore()


def refuse(*arguments, **options):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class FullDisk(io.FileIO):
    """A file on a disk that takes the first bytes and no more."""

    def write(self, data):
        super().write(data[:10])
        refuse()


@pytest.mark.parametrize("failing", ["os.replace", "os.fsync", "open"])
def test_a_full_disk_leaves_the_old_file(saved, monkeypatch, failing):
    place, _ = saved
    old = place.path.read_bytes()
    if failing == "open":
        monkeypatch.setattr(checkpoint, "open", FullDisk, raising=False)
    else:
        monkeypatch.setattr(failing, refuse)
    words = f"cannot write {place.path}: No space left on device. Any older file of tha"
    with pytest.raises(OSError, match=words) as error:
        place.save([*HISTORY, {"epoch": 3}])
    assert error.value.errno == errno.ENOSPC and "\n" not in str(error.value)
    assert place.path.read_bytes() == old
    assert os.listdir(place.path.parent) == [place.path.name]


def test_a_disk_that_is_really_too_small(saved):
    place, _ = saved
    old = place.path.read_bytes()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        with pytest.raises(OSError, match=f"cannot write {place.path}: File too large"):
            replace_file(place.path, bytes(100_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert place.path.read_bytes() == old
    assert os.listdir(place.path.parent) == [place.path.name]


def test_a_read_only_folder(tmp_path):
    folder = tmp_path / "locked"
    folder.mkdir()
    folder.chmod(0o555)
    if os.access(folder, os.W_OK):
        folder = "/proc/self"  # to root, too, this one is read-only
    path = checkpoint.Path(folder, "run.pt")
    with pytest.raises(OSError, match=f"cannot write {path}: .*choose another folder"):
        replace_file(path, b"data")


def test_a_folder_that_is_a_file(tmp_path):
    (tmp_path / "file").write_text("")
    path = tmp_path / "file" / "run.pt"
    with pytest.raises(OSError, match=f"cannot write {path}: .*choose another folder"):
        replace_file(path, b"data")


def test_a_key_press_leaves_the_old_file(saved, monkeypatch):
    def interrupt(*arguments):
        raise KeyboardInterrupt

    place, _ = saved
    old = place.path.read_bytes()
    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        place.save([])
    assert place.path.read_bytes() == old
    assert os.listdir(place.path.parent) == [place.path.name]


@settings(max_examples=200, deadline=None)
@given(share=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_a_flipped_bit_is_seen_or_harmless(whole, share, bit):
    data, place = whole
    damaged = bytearray(data)
    damaged[int(share * len(data))] ^= 1 << bit
    place.path.write_bytes(damaged)
    others = parts()
    before = deepcopy(others["model"])
    try:
        history = Checkpoint(place.path, RUN, **others).restore()
    except ValueError as error:
        assert str(place.path) in str(error)
        assert_equal_states(others["model"], before)
    else:
        assert history == HISTORY
        assert_equal_states(others["model"], place.parts["model"])


def test_a_refused_file_leaves_every_part(saved):
    place, inside = saved
    others = parts()
    others["optimizer"] = torch.optim.SGD([nn.Parameter(torch.zeros(1))], 0.1)
    before = deepcopy(others["model"])
    with pytest.raises(ValueError, match="does not fit this run's optimizer"):
        Checkpoint(place.path, RUN, **others).restore()
    assert_equal_states(others["model"], before)


def test_a_place_that_cannot_be_written_is_seen_before_the_work(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=f"^.*cannot write to {tmp_path / 'file'}: "):
        Checkpoint(tmp_path / "file" / "run.pt", RUN, **parts()).restore()
    file = Path("/proc/self/status")  # a file that is there, in a read-only folder
    with pytest.raises(OSError, match="cannot write to /proc/self: "):
        Checkpoint(file, RUN, **parts()).restore()
    with pytest.raises(IsADirectoryError):
        Checkpoint(tmp_path, RUN, **parts()).restore()


def test_a_user_without_a_home_has_a_folder_all_the_same(monkeypatch):
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert checkpoint.cache_folder() == Path.home() / ".cache" / "d2l_dense"

    def expanduser(_):
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "expanduser", expanduser)
    assert checkpoint.cache_folder() == Path("data")


def test_what_a_link_leads_to_is_replaced_and_the_link_stays(tmp_path):
    place, link = tmp_path / "place", tmp_path / "link"
    place.write_bytes(b"old")
    link.symlink_to(place)
    checkpoint.replace_file(link, b"new")
    assert link.is_symlink() and place.read_bytes() == b"new"
