"""d2l_dense/data: find, fetch and verify Fashion-MNIST, and serve its batches."""

import errno
import gzip
import http.server
import os
import runpy
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from d2l import torch as d2l
from helpers import small_fashion_mnist
from PIL import Image
from torchvision.transforms import Compose, Resize, ToTensor

from d2l_dense import DenseNet, FashionMNIST
from d2l_dense.data import files

IMAGES, LABELS = tuple(files.NAMES)[:2]


@pytest.fixture(scope="module")
def real():
    """The real data, if they lie where we look; tests do not download."""

    def missing(name, target):
        pytest.skip(f"{name} was not found: run python -m d2l_dense.data")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "_fetch", missing)
        return FashionMNIST(), [files.read(p) for p in files.fashion_mnist().values()]


@pytest.fixture
def places(tmp_path, monkeypatch):
    """The folders to look into, in order, all in `tmp_path` and empty."""
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv(files.VARIABLE, str(tmp_path / "variable"))
    monkeypatch.setattr(files, "DEBIAN_FOLDER", str(tmp_path / "debian"))
    names = ("argument", "variable", "work/data", "data", "cache/d2l_dense", "debian")
    return [tmp_path / name for name in names]


@pytest.fixture
def contents(monkeypatch):
    """Small files that count as the real ones; they lie nowhere yet."""
    return small_fashion_mnist(None, monkeypatch)


@pytest.fixture
def no_network(monkeypatch):
    def mirror(name):
        """the mirror"""
        raise OSError("no route to host")

    def debian(name):
        """the package"""
        raise subprocess.TimeoutExpired("apt-get", 600)

    monkeypatch.setattr(files, "_from_mirror", mirror)
    monkeypatch.setattr(files, "_from_debian", debian)


def put(folder, contents, suffix=".gz"):
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in contents.items():
        data = gzip.compress(data) if suffix == ".gz" else data
        (folder / f"{name}{suffix}").write_bytes(data)


def all_files(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file())


# Splits and batches


def test_the_splits_are_disjoint_and_cover_the_data(real):
    data, (images, labels, test_images, test_labels) = real
    assert (len(data.train), len(data.val), len(data.test)) == (55_000, 5_000, 10_000)
    for label in range(10):
        own = torch.tensor(images[labels == label])
        val = data.val.images[data.val.labels == label, 0]
        train = data.train.images[data.train.labels == label, 0]
        assert torch.equal(val, own[-500:]) and torch.equal(train, own[:-500])
    assert torch.equal(data.test.images[:, 0], torch.tensor(test_images))
    assert torch.equal(data.test.labels, torch.tensor(test_labels).long())


def test_batches_are_finished(real):
    data, _ = real
    loaders = data.train_dataloader(), data.val_dataloader(), data.test_dataloader()
    assert [len(loader) for loader in loaders] == [430, 40, 79]
    for loader in loaders:
        X, y = next(iter(loader))
        assert X.shape == (128, 1, 96, 96) and X.dtype == torch.float32
        assert y.shape == (128,) and y.dtype == torch.int64
        assert X.min() >= 0 and 0.9 < X.max() <= 1
        assert set(y.tolist()) <= set(range(10))


@pytest.mark.parametrize("resize", [(96, 96), (20, 35), (28, 28), (14, 14)])
def test_resizing_equals_torchvision(real, resize):
    data, (_, _, test_images, _) = real
    split = type(data.test)(torch.tensor(test_images[:20]), data.test.labels, resize)
    theirs = Compose([Resize(resize), ToTensor()])
    X, _ = split.__getitems__(list(range(20)))
    Y = torch.stack([theirs(Image.fromarray(image)) for image in test_images[:20]])
    assert X.shape == Y.shape == (20, 1, *resize)
    assert (X - Y).abs().max() <= 1 / 255 + 1e-6
    assert (X - Y.flip(-1)).abs().max() > 0.1


@pytest.fixture
def small(tmp_path, monkeypatch):
    """A function that makes the data from the small files."""
    contents = small_fashion_mnist(tmp_path / "root", monkeypatch)

    def make(*arguments, **options):
        return FashionMNIST(*arguments, root=tmp_path / "root", **options)

    make.contents = contents
    return make


def test_the_splits_do_not_depend_on_the_seed(small):
    data = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        data.append(small(flip=bool(seed % 2)))
    for split in ("train", "val", "test"):
        first, second = (getattr(one, split) for one in data)
        assert torch.equal(first.images, second.images)
        assert torch.equal(first.labels, second.labels)


def test_a_limit_takes_the_first_and_leaves_the_classes_even(small):
    full, data = small(resize=28), small(resize=28, limit=20)
    for split in ("train", "val", "test"):
        some, whole = getattr(data, split), getattr(full, split)
        assert len(some) == 20
        assert torch.equal(some.images, whole.images[:20])
    assert data.val.labels.bincount().tolist() == [2] * 10


def test_only_training_pictures_are_mirrored(small):
    data = small(batch_size=64, resize=28)
    for split in (data.val, data.test):
        X, _ = split.__getitems__(list(range(len(split))))
        assert torch.equal(X, split.images.float() / 255)
    torch.manual_seed(0)
    X, _ = data.train.__getitems__(list(range(60)))
    original = data.train.images.float() / 255
    as_it_is = (original == X).flatten(1).all(1)
    mirrored = (original.flip(-1) == X).flatten(1).all(1)
    assert (as_it_is ^ mirrored).all()
    assert 15 < mirrored.sum() < 45  # of 60: four sigmas about 30
    still = small(resize=28, flip=False).train
    assert torch.equal(still.__getitems__(list(range(60)))[0], original)


@pytest.mark.parametrize("resize", [28, (30, 33)])
def test_one_picture_and_a_batch_agree(small, resize):
    split = small(resize=resize, flip=False).train
    X, y = split.__getitems__([5, 0, 17])
    for i, index in enumerate([5, 0, 17]):
        X_i, y_i = split[index]
        assert torch.equal(X[i], X_i) and torch.equal(y[i], y_i)


def test_loaders_see_every_picture_once(small):
    data = small(batch_size=16, resize=28, flip=False)
    loader = data.train_dataloader()
    batches = [X for X, _ in loader]
    assert [len(X) for X in batches] == [16, 16, 16, 12] and len(loader) == 4
    seen = torch.cat(batches).flatten(1).sum(1)
    expected = (data.train.images.float() / 255).flatten(1).sum(1)
    torch.testing.assert_close(seen.sort().values, expected.sort().values)
    assert not torch.equal(seen, expected)  # shuffled
    first = [X for X, _ in data.val_dataloader()]
    assert torch.equal(torch.cat(first), data.val.images.float() / 255)
    assert sum(len(y) for _, y in data.test_dataloader()) == 23


def test_data_can_rest_on_a_device(small):
    data = small(resize=28)
    assert data.to("cpu") is data
    assert data.to(torch.device("meta")).train.images.device.type == "meta"


def test_labels_have_words(small):
    assert small().text_labels([0, 9]) == ["t-shirt", "ankle boot"]


@pytest.mark.parametrize(
    "options, words",
    [
        ({"batch_size": 0}, "batch_size=0: expected a whole number, 1 or more"),
        ({"batch_size": 1.5}, "batch_size=1.5: expected a whole number, 1 or more"),
        ({"limit": 0}, "limit=0: expected a whole number, 1 or more"),
        ({"resize": 0}, "height=0: expected a whole number, 1 or more"),
        ({"resize": (96, -1)}, "width=-1: expected a whole number, 1 or more"),
        ({"resize": (96, 96, 1)}, r"resize=\(96, 96, 1\): expected \(height, width\)"),
        ({"resize": None}, r"resize=None: expected \(height, width\) or an int"),
        ({"resize": 96.5}, r"resize=96.5: expected \(height, width\) or an int"),
        ({"resize": "96"}, r"resize='96': expected \(height, width\) or an int"),
    ],
)
def test_wrong_arguments(small, options, words):
    with pytest.raises(ValueError, match=words):
        small(**options)


def test_d2l_trains_our_model_on_our_data(small):
    data = small(batch_size=20, resize=32)
    torch.manual_seed(0)
    model = DenseNet(4, 2, (1, 1), lr=0.2)
    model.board.display = False
    before = torch.cat([p.detach().flatten() for p in model.parameters()])
    trainer = d2l.Trainer(max_epochs=2)
    trainer.fit(model, data)
    after = torch.cat([p.detach().flatten() for p in model.parameters()])
    assert trainer.train_batch_idx == 6 and trainer.val_batch_idx == 2
    assert after.isfinite().all() and (before != after).float().mean() > 0.8


# Finding


def test_where_we_look_in_which_order(places, contents, no_network):
    for place in places:
        put(place, contents)
    for place in places:
        found = files.fashion_mnist(places[0])
        assert {path.resolve().parent for path in found.values()} == {place}
        for path in place.iterdir():
            path.unlink()
    with pytest.raises(FileNotFoundError):
        files.fashion_mnist(places[0])


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("below", ["", "FashionMNIST/raw"])
def test_compressed_or_not_in_the_folder_or_where_torchvision_puts_it(
    places, contents, no_network, suffix, below
):
    put(places[0] / below, contents, suffix)
    found = files.fashion_mnist(places[0])
    assert list(found) == list(files.NAMES)
    arrays = [files.read(path) for path in found.values()]
    assert [a.shape for a in arrays] == [(80, 28, 28), (80,), (23, 28, 28), (23,)]
    assert all(a.dtype == np.uint8 for a in arrays)
    assert arrays[0].tobytes() == contents[IMAGES][16:]


def test_files_may_lie_in_different_folders(places, contents, no_network):
    put(places[5], {LABELS: contents[LABELS]})
    put(places[0], {name: contents[name] for name in contents if name != LABELS})
    found = files.fashion_mnist(places[0])
    assert found[LABELS].parent == places[5] and found[IMAGES].parent == places[0]


# Verifying


def swap(data):
    return gzip.compress(data[:-1] + bytes([data[-1] ^ 1]))


def damage(data):
    packed = bytearray(gzip.compress(data))
    packed[10:20] = b"\xff" * 10  # where the compressed stream begins
    return bytes(packed)


@pytest.mark.parametrize(
    "spoil, found",
    [
        (swap, "found 62,736 bytes with SHA-256 [0-9a-f]{64};"),
        (lambda data: gzip.compress(data[:-3]), "found 62,733 bytes with SHA-256"),
        (lambda data: gzip.compress(data)[:-100], "bytes that do not decompress"),
        (lambda data: gzip.compress(data)[:5], "found 5 bytes that do not decompress"),
        (damage, "bytes that do not decompress"),
        (lambda data: b"<html>404</html>", "found 16 bytes that do not decompress"),
        (lambda data: b"", "found 0 bytes"),
    ],
)
def test_a_wrong_file_is_named(tmp_path, contents, spoil, found):
    path = tmp_path / f"{IMAGES}.gz"
    path.write_bytes(spoil(contents[IMAGES]))
    digest, size = files.NAMES[IMAGES]
    with pytest.raises(ValueError, match=found) as error:
        files.read(path)
    words = str(error.value)
    assert words.startswith(f"{path} is not Fashion-MNIST's: found ")
    assert f"expected {size:,} bytes with SHA-256 {digest}" in words
    assert "Delete the file and run again" in words


def test_a_short_file_that_is_not_compressed(tmp_path, contents):
    path = tmp_path / LABELS
    path.write_bytes(contents[LABELS][:50])
    with pytest.raises(ValueError, match="found 50 bytes with .* expected 88 bytes"):
        files.read(path)


def test_a_wrong_file_stops_the_data_module(tmp_path, monkeypatch):
    small_fashion_mnist(tmp_path, monkeypatch)
    (tmp_path / f"{LABELS}.gz").write_bytes(b"")
    with pytest.raises(ValueError, match=f"{LABELS}.gz is not Fashion-MNIST's"):
        FashionMNIST(root=tmp_path)


# Fetching


def source(answers, doc="a source"):
    """A source of files: bytes that are sent, or an error that is raised."""

    def fetch(name):
        answer = answers[name] if isinstance(answers, dict) else answers
        if isinstance(answer, BaseException):
            raise answer
        return gzip.compress(answer)

    fetch.__doc__ = doc
    return fetch


def test_what_is_missing_is_fetched(places, contents, monkeypatch):
    monkeypatch.setattr(files, "_from_mirror", source(contents))
    monkeypatch.setattr(files, "_from_debian", source(AssertionError("not needed")))
    found = files.fashion_mnist(places[0])
    raw = places[0] / "FashionMNIST" / "raw"
    assert found == {name: raw / name for name in contents}
    assert all_files(places[0]) == sorted(found.values())
    assert {path.name: path.read_bytes() for path in found.values()} == contents
    (raw / "another").touch()  # with the rights of any new file
    assert found[IMAGES].stat().st_mode == (raw / "another").stat().st_mode
    monkeypatch.setattr(files, "_from_mirror", source(AssertionError("fetched twice")))
    assert files.fashion_mnist(places[0]) == found


@pytest.mark.parametrize("target", [0, 1, 4])
def test_where_it_is_fetched_to(places, contents, monkeypatch, target):
    monkeypatch.setattr(files, "_from_mirror", source(contents))
    if target == 4:
        monkeypatch.delenv(files.VARIABLE)
    found = files.fashion_mnist(places[0] if target == 0 else None)
    assert found[LABELS] == places[target] / "FashionMNIST" / "raw" / LABELS


@pytest.mark.parametrize(
    "answer",
    [OSError("no route"), ConnectionResetError(104, "reset"), b"<html></html>"],
)
def test_the_second_source_helps_out(places, contents, monkeypatch, answer):
    monkeypatch.setattr(files, "_from_mirror", source(answer))
    monkeypatch.setattr(files, "_from_debian", source(contents))
    found = files.fashion_mnist(places[0])
    assert {path.name: path.read_bytes() for path in found.values()} == contents


def test_no_file_and_no_network(places, tmp_path, contents, no_network):
    with pytest.raises(FileNotFoundError) as error:
        files.fashion_mnist(places[0])
    words = str(error.value)
    assert f"Fashion-MNIST's file {IMAGES} was not found" in words
    assert "the mirror: no route to host; the package: Command 'apt-get' timed" in words
    target = places[0] / "FashionMNIST" / "raw"
    assert f"Put {IMAGES}.gz into {target}" in words and files.VARIABLE in words
    assert "\n" not in words and all_files(tmp_path) == []


@pytest.mark.parametrize(
    "answer", [b"<html>", OSError("reset"), KeyboardInterrupt(), MemoryError()]
)
def test_a_failed_download_leaves_nothing(
    places, tmp_path, contents, monkeypatch, answer
):
    monkeypatch.setattr(files, "_from_mirror", source(answer))
    monkeypatch.setattr(files, "_from_debian", source(answer))
    with pytest.raises((FileNotFoundError, KeyboardInterrupt, MemoryError)):
        files.fashion_mnist(places[0])
    assert all_files(tmp_path) == []


@pytest.mark.parametrize(
    "failure", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()]
)
def test_a_failed_write_leaves_nothing(
    places, tmp_path, contents, monkeypatch, failure
):
    def replace(source, target):
        raise failure

    monkeypatch.setattr(files, "_from_mirror", source(contents))
    monkeypatch.setattr(os, "replace", replace)
    with pytest.raises(type(failure)):
        files.fashion_mnist(places[0])
    assert all_files(tmp_path) == []


@pytest.fixture
def server(monkeypatch):
    """A mirror on this machine; `server.answers` says what it sends for a path."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            promised, sent = server.answers.get(self.path, (None, b""))
            self.send_response(200 if promised is not None else 404)
            self.send_header("Content-Length", str(promised or 0))
            self.end_headers()
            self.wfile.write(sent)

        def log_message(self, *arguments):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        server.answers = {}
        url = f"http://127.0.0.1:{server.server_port}"
        mirrors = [f"{url}/first/", f"{url}/second/"]
        monkeypatch.setattr(torchvision.datasets.FashionMNIST, "mirrors", mirrors)
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_the_mirrors_of_torchvision(places, contents, server, monkeypatch):
    monkeypatch.setattr(files, "_from_debian", source(OSError("none here")))
    packed = {name: gzip.compress(data) for name, data in contents.items()}
    for name, data in packed.items():
        server.answers[f"/second/{name}.gz"] = (len(data), data)
    # The first mirror has one file, of which it sends a half, and no other.
    server.answers[f"/first/{IMAGES}.gz"] = (len(packed[IMAGES]), packed[IMAGES][:9000])
    found = files.fashion_mnist(places[0])
    assert {path.name: path.read_bytes() for path in found.values()} == contents


def test_a_cut_download_is_no_data(places, tmp_path, contents, server, monkeypatch):
    monkeypatch.setattr(files, "_from_debian", source(OSError("none here"), "Debian's"))
    for mirror in ("first", "second"):
        server.answers[f"/{mirror}/{IMAGES}.gz"] = (99_999, b"cut")
    with pytest.raises(FileNotFoundError, match="IncompleteRead.*none here"):
        files.fashion_mnist(places[0])
    assert all_files(tmp_path) == []


PROCESS = """
import gzip, os, sys, time, types
from pathlib import Path
# Of the package this module alone: importing torch would take seconds.
for name in ("torch", "torchvision", "d2l_dense", "d2l_dense.data"):
    sys.modules[name] = types.ModuleType(name)
sys.modules["d2l_dense"].__path__ = [str(Path({code!r}).parent.parent)]
sys.modules["d2l_dense.data"].__path__ = [str(Path({code!r}).parent)]
from d2l_dense.data import files
files.NAMES = {names!r}
root = Path({root!r})

def wait():
    (root / f"ready-{{os.getpid()}}").touch()
    while not (root / "go").exists():
        time.sleep(0.005)

def mirror(name):
    if {waits!r} == "in the download":
        wait()
    return gzip.compress(Path({origin!r}, name).read_bytes())

files._from_mirror = mirror
replace = os.replace
if {waits!r} == "before the renaming":
    os.replace = lambda *paths: (wait(), replace(*paths))
for path in files.fashion_mnist(root / "data").values():
    files.read(path)
"""


@pytest.fixture
def start(tmp_path, contents, monkeypatch):
    """A function that starts a process that fetches, and waits where it is told."""
    put(tmp_path / "origin", contents, "")
    monkeypatch.delenv(files.VARIABLE, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    started = []

    def start(waits):
        script = PROCESS.format(
            code=files.__file__,
            names=files.NAMES,
            root=str(tmp_path),
            origin=str(tmp_path / "origin"),
            waits=waits,
        )
        # An empty folder to start in, and nothing of Debian's.
        script = script.replace("root = ", "files.DEBIAN_FOLDER = '/none'; root = ")
        started.append(subprocess.Popen([sys.executable, "-c", script], cwd=tmp_path))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


def wait_until_ready(folder, number, processes):
    for _ in range(4000):
        if len(list(folder.glob("ready-*"))) == number:
            return
        assert all(process.poll() is None for process in processes)
        threading.Event().wait(0.01)
    raise AssertionError("no process got there")


@pytest.mark.parametrize("where", ["in the download", "before the renaming"])
def test_two_processes_at_once_do_no_harm(tmp_path, contents, start, where):
    processes = [start(where), start(where)]
    wait_until_ready(tmp_path, 2, processes)
    (tmp_path / "go").touch()
    assert [process.wait(60) for process in processes] == [0, 0]
    raw = tmp_path / "data" / "FashionMNIST" / "raw"
    assert {path.name: path.read_bytes() for path in all_files(raw)} == contents


def test_a_killed_download_leaves_nothing(tmp_path, start):
    process = start("in the download")
    wait_until_ready(tmp_path, 1, [process])
    process.send_signal(signal.SIGKILL)
    assert process.wait(60) == -signal.SIGKILL
    assert not (tmp_path / "data").exists()


def test_a_killed_write_does_not_count_as_data(tmp_path, contents, start):
    process = start("before the renaming")
    wait_until_ready(tmp_path, 1, [process])
    process.send_signal(signal.SIGKILL)
    process.wait(60)
    left = all_files(tmp_path / "data")
    assert len(left) == 1 and left[0].name not in contents
    again = start("nowhere")
    assert again.wait(60) == 0
    raw = tmp_path / "data" / "FashionMNIST" / "raw"
    for name, data in contents.items():
        assert (raw / name).read_bytes() == data


def test_the_command_verifies_and_says_where_the_data_are(
    places, contents, no_network, capsys, monkeypatch
):
    def command(*arguments):
        monkeypatch.setattr(sys, "argv", ["data", *map(str, arguments)])
        runpy.run_module("d2l_dense.data", run_name="__main__", alter_sys=True)

    with pytest.raises(SystemExit, match="^Fashion-MNIST's file .* was not found"):
        command()
    put(places[1], contents)
    command()
    printed = capsys.readouterr().out.splitlines()
    assert printed == [str(places[1] / f"{name}.gz") for name in contents]
    (places[1] / f"{LABELS}.gz").write_bytes(b"cut")
    with pytest.raises(SystemExit, match=f"{LABELS}.gz is not Fashion-MNIST's"):
        command()
    put(places[0], contents)
    capsys.readouterr()
    command(places[0])
    printed = capsys.readouterr().out.splitlines()
    assert printed == [str(places[0] / f"{name}.gz") for name in contents]
    for arguments in (["--help"], [places[0], "more"]):
        with pytest.raises(SystemExit) as error:
            command(*arguments)
        assert error.value.code in (0, 2)
    said = capsys.readouterr()
    assert "find or fetch the data" in said.out and "unrecognized" in said.err


def test_paths_are_paths(places, contents, monkeypatch):
    put(Path(places[0]), contents)
    found = files.fashion_mnist(str(places[0]))
    assert all(isinstance(path, Path) for path in found.values())
