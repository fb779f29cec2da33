"""Fashion-MNIST: its files found, fetched and verified; its splits and batches."""

import gzip
import io
import os
import runpy
import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http.client import IncompleteRead
from threading import Barrier

import numpy as np
import pytest
import torch
from helpers import small_fashion_mnist
from PIL import Image
from torch.utils.data import DataLoader
from torchvision import datasets
from torchvision.transforms import Compose, Resize, ToTensor

from d2l_dense import FashionMNIST, fashion_mnist, files
from d2l_dense.fashion_mnist import fashion_mnist_files

IMAGES, LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"
MIRROR = datasets.FashionMNIST.mirrors[0]


@pytest.fixture
def contents(tmp_path, monkeypatch):
    """What the four files hold, small ones that count as the real ones."""
    return small_fashion_mnist(tmp_path / "small", monkeypatch)


@pytest.fixture
def small(tmp_path, contents):
    return partial(FashionMNIST, root=tmp_path / "small")


def every(split):
    return split.batch(list(range(len(split))))


@pytest.fixture(scope="module")
def real():
    """The real data, if they lie where we look; tests do not download."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "urlopen", lambda *_, timeout: io.BytesIO())
        try:
            return FashionMNIST()
        except FileNotFoundError:
            pytest.skip("Fashion-MNIST is not here: run make data")


def test_the_real_splits(real):
    loaders = real.train_dataloader(), real.val_dataloader(), real.test_dataloader()
    assert [len(loader) for loader in loaders] == [430, 40, 79]
    assert real.train.labels.bincount().tolist() == [5_500] * 10
    loaders += (DataLoader(real.val, 128),)  # one by one
    for X, y in map(next, map(iter, loaders)):
        assert X.shape == (128, 1, 96, 96) and 0 <= X.min() < 0.9 < X.max() <= 1
        assert (X.dtype, y.dtype, y.shape) == (torch.float32, torch.int64, (128,))


@pytest.mark.parametrize("resize", [(96, 96), (20, 35), (28, 28), (14, 14)])
def test_resizing_equals_torchvision(real, resize):
    images, theirs = real.test.images[:20], Compose([Resize(resize), ToTensor()])
    X, _ = every(type(real.test)(images, real.test.labels[:20], resize))
    Y = torch.stack([theirs(Image.fromarray(image)) for image in images[:, 0].numpy()])
    assert X.shape == Y.shape == (20, 1, *resize)
    assert (X - Y).abs().max() <= 1 / 255 + 1e-6 and (X - Y.flip(-1)).abs().max() > 0.1


def test_the_splits_are_torchvisions_rows_in_their_order(tmp_path, small, contents):
    put(tmp_path / "FashionMNIST" / "raw", contents)
    train, test = (datasets.FashionMNIST(tmp_path, train=t) for t in (True, False))
    data, own = small(), [(train.targets == y).nonzero()[:, 0] for y in range(10)]
    kept = torch.cat([rows[:-2] for rows in own]).sort().values
    assert torch.equal(data.train.images[:, 0], train.data[kept])
    held_out = torch.stack([rows[-2:] for rows in own], dim=1).flatten()
    assert torch.equal(data.val.images[:, 0], train.data[held_out])
    assert torch.equal(data.test.images[:, 0], test.data)
    assert torch.equal(data.test.labels, test.targets)


def test_only_training_pictures_are_mirrored(small):
    data = small(resize=28)
    for split in (data.val, data.test):
        assert torch.equal(every(split)[0], split.images.float() / 255)
    torch.manual_seed(0)
    X, original = every(data.train)[0], every(small(resize=28, flip=False).train)[0]
    torch.manual_seed(0)
    mirrored = torch.rand(60) < 0.5
    assert torch.equal(X[mirrored], original.flip(-1)[mirrored])
    assert torch.equal(X[~mirrored], original[~mirrored])


def test_loaders_serve_every_picture_once(small):
    data = small(batch_size=16, resize=(30, 33), flip=False)
    batches = list(data.train_dataloader())
    assert [len(X) for X, _ in batches] == [16, 16, 16, 12]
    seen = torch.cat([X for X, _ in batches]).flatten(1).sum(1)
    expected = every(data.train)[0].flatten(1).sum(1)
    torch.testing.assert_close(seen.sort().values, expected.sort().values)
    assert not torch.equal(seen, expected)  # shuffled
    X, y = map(torch.cat, zip(*data.test_dataloader(), strict=True))
    assert torch.equal(y, data.test.labels) and torch.equal(X[5], data.test[5][0])
    assert data.to("cpu") is data and data.to("meta").train.images.is_meta


def test_a_limit_cuts_each_split(small):
    data, full = small(limit=np.uint8(20)), small()
    assert type(data.limit) is int and len(data.test) == 20
    for some, whole in ((data.train, full.train), (data.val, full.val)):
        assert torch.equal(some.images, whole.images[:20])


@pytest.mark.parametrize("resize", [0, (96, 96, 1), "96", 9.5, None])
def test_wrong_sizes(small, resize):
    with pytest.raises(ValueError, match="resize=.*: expected 2 whole numbers of 1"):
        small(resize=resize)


def compressed(data):
    return gzip.compress(data, mtime=0)


def put(folder, contents, suffix=""):
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in contents.items():
        data = compressed(data) if suffix else data
        (folder / f"{name}{suffix}").write_bytes(data)


def held(folder):
    return {p.name: p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def send(monkeypatch, answers):
    """Let the mirror send these bytes, by file name, or fail with that error."""

    def urlopen(address, timeout):
        answer = answers[address.removeprefix(MIRROR).removesuffix(".gz")]
        if isinstance(answer, BaseException):
            raise answer
        return io.BytesIO(answer)

    monkeypatch.setattr(files, "urlopen", urlopen)


@pytest.fixture
def places(tmp_path, monkeypatch):
    """The folders to look into, in order, empty; the mirror is out of reach."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("D2L_DENSE_DATA", str(tmp_path / "variable"))
    send(monkeypatch, {IMAGES: OSError("no route to host")})
    places = "argument", "variable", "cache/d2l_dense", "work/data", "data"
    return [tmp_path / place for place in places]


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_where_files_may_lie(places, contents, suffix):
    lying = [places[0] / "FashionMNIST" / "raw", *places]
    for place in lying:
        put(place, contents, suffix)
    for place in lying:
        paths, found = zip(*fashion_mnist_files(str(places[0])), strict=True)
        assert found == tuple(contents.values())
        assert {path.resolve().parent for path in paths} == {place}
        for path in paths:
            path.unlink()


def test_a_folder_that_cannot_be_looked_into_is_passed_over(places, contents):
    put(places[3], contents)
    for name in ("a" * 300, "locked"):
        (places[0] / "locked").mkdir(mode=0, parents=True, exist_ok=True)
        _, found = zip(*fashion_mnist_files(places[0] / name), strict=True)
        assert found == tuple(contents.values())


@pytest.mark.parametrize(
    "sent, words",
    [
        (b"<html>404</html>", "16 bytes that begin with b'<html>404</h', of SHA256 "),
        (compressed(b"short"), "5 bytes that begin with b'short', of SHA256 "),
        (compressed(bytes(999))[:-9], "Compressed file ended before"),
        (IncompleteRead(b"cut", 9), r"IncompleteRead\(3 bytes read, 9 more expected"),
    ],
)
def test_what_came_from_where(places, contents, monkeypatch, sent, words):
    send(monkeypatch, {IMAGES: sent})
    lacking = f"found no {IMAGES} of SHA256 {fashion_mnist.SHA_256['train-images']} "
    with pytest.raises(FileNotFoundError, match=f"{MIRROR}{IMAGES}.gz: .*{words}") as e:
        FashionMNIST(root=places[0])
    assert str(e.value).startswith(lacking)
    assert f"put it into {places[0] / 'FashionMNIST/raw'} or" in str(e.value)
    assert "make data" in str(e.value) and held(places[0]) == {}  # nothing to delete
    if isinstance(sent, bytes):  # the same in a file
        put(places[0], contents | {IMAGES: sent})
        with pytest.raises(FileNotFoundError, match=f"{places[0] / IMAGES}: .*{words}"):
            FashionMNIST(root=places[0])


@pytest.mark.parametrize("target", [0, 1, 2])
def test_what_is_missing_is_fetched_once(places, contents, monkeypatch, target):
    send(monkeypatch, {name: compressed(data) for name, data in contents.items()})
    if target == 2:
        monkeypatch.delenv("D2L_DENSE_DATA")
    root, raw = places[0] if target == 0 else None, places[target] / "FashionMNIST/raw"
    put(raw, {IMAGES: b"cut", LABELS: contents[LABELS]})
    for _ in range(2):
        found = dict(fashion_mnist_files(root))
        assert found == {raw / name: data for name, data in contents.items()}
        assert held(places[target]) == contents
        send(monkeypatch, {})


def test_two_may_fetch_at_once(places, contents, monkeypatch):
    replace, met = os.replace, []
    both = Barrier(2, lambda: met.append(True), timeout=60)
    send(
        monkeypatch,
        {name: gzip.compress(data, mtime=0) for name, data in contents.items()},
    )
    monkeypatch.setattr(os, "replace", lambda *paths: (both.wait(), replace(*paths)))
    with ThreadPoolExecutor(2) as pool:
        found = pool.map(lambda root: dict(fashion_mnist_files(root)), places[:1] * 2)
    assert [list(files.values()) for files in found] == [list(contents.values())] * 2
    assert held(places[0]) == contents and len(met) == 4


def test_the_command_says_where_the_files_are(places, contents, capsys, monkeypatch):
    def command(*arguments):
        monkeypatch.setattr(sys, "argv", ["data", *map(str, arguments)])
        runpy.run_module("d2l_dense.data", run_name="__main__", alter_sys=True)
        return capsys.readouterr().out.splitlines()

    with pytest.raises(SystemExit, match=f"^found no {IMAGES} of "):
        command()
    for place, arguments in ((places[1], []), (places[0], [places[0]])):
        put(place, contents, ".gz")
        assert command(*arguments) == [str(place / f"{name}.gz") for name in contents]
