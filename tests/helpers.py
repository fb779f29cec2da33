"""What more than one test file needs."""

import gzip
import hashlib
from copy import deepcopy
from pathlib import Path

import numpy as np
import torch
from axe_playwright_python.sync_playwright import Axe
from d2l import torch as d2l
from torch import nn

from d2l_dense import Trainer, fashion_mnist, house_prices, one_cycle


def randomise(net):
    """Give every weight and buffer of a net a value of its own, in float64."""
    net.double()
    with torch.no_grad():
        for value in (*net.parameters(), *net.buffers()):
            if value.is_floating_point():
                value.copy_(torch.rand_like(value) + 0.5)  # variances are positive
        for parameter in net.parameters():
            parameter.mul_(torch.randn_like(parameter).sign())
    return net


def copy_state(source, target):
    """Give `target` the state of `source`, entry by entry in their order."""
    ours, theirs = source.state_dict(), target.state_dict()
    assert [v.shape for v in ours.values()] == [v.shape for v in theirs.values()]
    target.load_state_dict(dict(zip(theirs, ours.values(), strict=True)))


def assert_same_training(net, plain, shape):
    """Assert that two nets do the same in training: outputs, gradients, buffers.

    Both get the same random weights; differences count relative to the largest
    number of their kind, since some gradients are zero but for rounding.
    """
    torch.manual_seed(0)
    randomise(net)
    plain.double()
    copy_state(net, plain)
    X = torch.randn(shape, dtype=torch.float64)
    outputs, gradients = [], []
    for model in (net, plain):
        model.train().zero_grad()
        X_i = X.clone().requires_grad_()
        Y = model(X_i)
        torch.manual_seed(1)
        (Y * torch.randn_like(Y)).sum().backward()
        outputs.append(Y.detach())
        gradients.append([X_i.grad, *(p.grad for p in model.parameters())])
    _assert_close([outputs[0]], [outputs[1]])
    _assert_close(*gradients)
    for ours, theirs in zip(net.buffers(), plain.buffers(), strict=True):
        _assert_close([ours], [theirs])


def _assert_close(ours, theirs):
    largest = max(value.abs().max().item() for value in theirs)
    assert largest > 0
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-11 * largest)


class Pictures(d2l.DataModule):
    """Random labelled pictures; 11 in batches of 4, so the last holds 3."""

    def __init__(self, n=11, batch_size=4, size=8, num_classes=3, dtype=torch.float32):
        super().__init__()
        self.save_hyperparameters()
        random = torch.Generator().manual_seed(7)
        self.X = torch.randn(n, 1, size, size, generator=random, dtype=dtype)
        self.y = torch.randint(num_classes, (n,), generator=random)

    def get_dataloader(self, train):
        return self.get_tensorloader((self.X, self.y), train)


class Classifier(d2l.Classifier):
    """A small classifier of `Pictures`, with dropout and momentum."""

    def __init__(self, lr=0.1, dropout=0.2, norm=True):
        super().__init__()
        self.save_hyperparameters()
        self.net = nn.Sequential(
            nn.Conv2d(1, 4, kernel_size=3),
            nn.BatchNorm2d(4) if norm else nn.Identity(),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Flatten(),
            nn.LazyLinear(3),
        )

    def on_step(self):
        """Called at every training step; tests put something here."""

    def training_step(self, batch):
        self.on_step()
        Y_hat = self(batch[0])
        loss = self.loss(Y_hat, batch[1])
        self.plot("loss", loss, train=True)
        self.plot("acc", self.accuracy(Y_hat, batch[1]), train=True)
        return loss

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), self.lr, momentum=0.9)


def by_hand(model, loader):
    """Average loss and accuracy over every example, one example at a time."""
    model = deepcopy(model).eval()
    losses, hits = [], []
    for X, y in loader:
        with torch.no_grad():
            Y_hat = model.net(X)
        losses += nn.functional.cross_entropy(Y_hat, y, reduction="none").tolist()
        hits += (Y_hat.argmax(1) == y).tolist()
    return {"loss": sum(losses) / len(losses), "accuracy": sum(hits) / len(hits)}


QUIET = {"accelerator": "cpu", "precision": "32-true", "progress": False}


def run(checkpoint=None, weights=1, max_epochs=3, on_step=None, **changes):
    """Train a `Classifier` on `Pictures`: its history, and the model."""
    torch.manual_seed(weights)
    model = Classifier()
    if on_step:
        model.on_step = lambda: on_step(model.trainer)
    options = {"schedule": one_cycle, "gradient_clip_val": 1.0, "seed": 3} | QUIET
    trainer = Trainer(max_epochs, checkpoint=checkpoint, **options | changes)
    return trainer.fit(model, Pictures()), model


def without_seconds(history):
    return [{k: v for k, v in row.items() if k != "seconds"} for row in history]


def assert_equal_states(ours, theirs):
    """Assert that two modules hold the same numbers, bit for bit."""
    ours, theirs = ours.state_dict(), theirs.state_dict()
    assert ours.keys() == theirs.keys()
    for key, value in ours.items():
        assert torch.equal(value, theirs[key]), key


def idx(array):
    """The bytes of an IDX file of uint8 numbers."""
    shape = np.array(array.shape, dtype=">u4").tobytes()
    return bytes([0, 0, 8, array.ndim]) + shape + array.tobytes()


def small_fashion_mnist(folder, monkeypatch, per_class=8, held_out=2, num_test=23):
    """Let the four files be small ones of random pictures, lying in `folder`.

    Returns their contents by name, not compressed.
    """
    random = np.random.default_rng(0)
    labels = random.permutation(np.repeat(np.arange(10, dtype=np.uint8), per_class))
    contents, sums = {}, {}
    for part, y in (
        ("train", labels),
        ("t10k", random.integers(10, size=num_test, dtype=np.uint8)),
    ):
        images = random.integers(256, size=(len(y), 28, 28), dtype=np.uint8)
        for kind, array in (("images", images), ("labels", y)):
            data = idx(array)
            contents[f"{part}-{kind}-idx{array.ndim}-ubyte"] = data
            sums[f"{part}-{kind}"] = hashlib.sha256(data).hexdigest()
    monkeypatch.setattr(fashion_mnist, "SHA_256", sums)
    monkeypatch.setattr(fashion_mnist, "VALIDATION_PER_CLASS", held_out)
    Path(folder).mkdir(parents=True, exist_ok=True)
    for name, data in contents.items():
        Path(folder, f"{name}.gz").write_bytes(gzip.compress(data))
    return contents


def small_house_prices(folder, monkeypatch, frame, num_train=60, num_test=20):
    """Let Kaggle's two files be small ones made of De Cock's sales, in `folder`.

    Returns their contents by name.
    """
    frame = frame[: num_train + num_test].reset_index(drop=True)
    frame.insert(0, "Id", frame.index + 1)
    parts = {
        "train": frame[:num_train],
        "test": frame[num_train:].drop(columns="SalePrice"),
    }
    contents, sums = {}, {}
    Path(folder).mkdir(parents=True, exist_ok=True)
    for part, sales in parts.items():
        data = sales.to_csv(index=False, na_rep="NA").encode()
        sums[part] = hashlib.sha1(data).hexdigest()
        name = f"kaggle_house_pred_{part}.csv"
        contents[name] = data
        Path(folder, name).write_bytes(data)
    monkeypatch.setattr(house_prices, "KAGGLE_SHA_1", sums)
    return contents


def serious_barriers(page, part=None):
    """What axe-core finds serious or critical on a page, or in a part of it."""
    return [
        (rule["id"], node["html"])
        for rule in Axe().run(page, part).response["violations"]
        if rule["impact"] in ("serious", "critical")
        for node in rule["nodes"]
    ]
