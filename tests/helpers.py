"""What more than one test file needs."""

import gzip
import hashlib
from copy import deepcopy
from pathlib import Path

import numpy as np
import torch
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


def assert_same_training(net, plain, shape):
    """Assert that two nets with the same random weights do the same in training."""
    torch.manual_seed(0)
    ours, theirs = randomise(net).state_dict(), plain.double().state_dict()
    plain.load_state_dict(dict(zip(theirs, ours.values(), strict=True)))
    X = torch.randn(shape, dtype=torch.float64)
    assert_same_step(net.train(), plain.train(), X, tolerance=1e-11)


def assert_same_step(net, plain, X, tolerance=1e-10):
    """Assert equal outputs, gradients and buffers of a forward and backward pass.

    Differences count relative to the largest number of their kind, since some
    gradients are zero but for rounding.
    """
    outputs, gradients = [], []
    for model in (net, plain):
        model.zero_grad()
        X_i = X.clone().requires_grad_()
        torch.manual_seed(1)
        Y = model(X_i)
        torch.manual_seed(2)
        (Y * torch.randn(Y.shape, dtype=Y.dtype)).sum().backward()
        outputs.append([Y.detach()])
        gradients.append([X_i.grad, *(p.grad for p in model.parameters())])
    buffers = ([[value] for value in model.buffers()] for model in (net, plain))
    for ours, theirs in (outputs, gradients, *zip(*buffers, strict=True)):
        values = [0, *(t.abs().max().item() for t in theirs if t is not None)]
        for a, b in zip(ours, theirs, strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=tolerance * max(values))


class PlainDenseBlock(nn.Module):
    """A dense block in PyTorch's layers, with nothing of the package."""

    def __init__(self, c, num_layers, growth_rate, bottleneck=None, bias=True):
        super().__init__()
        self.net = nn.Sequential()
        for i in range(num_layers):
            width, layer = c + i * growth_rate, []
            if bottleneck is not None:
                narrow = bottleneck * growth_rate
                conv = nn.Conv2d(width, narrow, kernel_size=1, bias=bias)
                layer, width = [*norm_and_relu(width), conv], narrow
            conv = nn.Conv2d(width, growth_rate, kernel_size=3, padding=1, bias=bias)
            self.net.append(nn.Sequential(*layer, *norm_and_relu(width), conv))

    def forward(self, X):
        for layer in self.net:
            X = torch.cat((X, layer(X)), dim=1)
        return X


def norm_and_relu(channels):
    return nn.BatchNorm2d(channels), nn.ReLU(inplace=True)


def plain_densenet(
    num_channels=64,
    growth_rate=32,
    arch=(4, 4, 4, 4),
    num_classes=10,
    *,
    in_channels=1,
    bottleneck=None,
    compression=0.5,
    bias=True,
    stem="imagenet",
    pool="avg",
    pool_first=False,
):
    """The network as the paper and D2L write it, in PyTorch's layers."""
    c, options = num_channels, {"bias": bias}
    if stem == "cifar":
        net = nn.Sequential(nn.Conv2d(in_channels, c, 3, padding=1, **options))
    else:
        conv = nn.Conv2d(in_channels, c, 7, stride=2, padding=3, **options)
        pooling = nn.MaxPool2d(kernel_size=3, stride=2, padding=1)
        net = nn.Sequential(conv, *norm_and_relu(c), pooling)
    for i, num_layers in enumerate(arch):
        net.append(PlainDenseBlock(c, num_layers, growth_rate, bottleneck, bias))
        c += num_layers * growth_rate
        if i < len(arch) - 1:
            narrow = int(c * compression)
            steps = [nn.Conv2d(c, narrow, kernel_size=1, **options)]
            steps.append(nn.AvgPool2d(2) if pool == "avg" else nn.MaxPool2d(2))
            net.extend([*norm_and_relu(c), *(steps[::-1] if pool_first else steps)])
            c = narrow
    net.extend([*norm_and_relu(c), nn.AdaptiveAvgPool2d(1), nn.Flatten()])
    return net.append(nn.Linear(c, num_classes))


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


def classifier(**options):
    """A classifier that has its weights already."""
    torch.manual_seed(1)
    model = Classifier(**options)
    model(Pictures().X)
    return model


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


def run(
    checkpoint=None, weights=1, max_epochs=3, on_step=None, data=None, lr=0.1, **changes
):
    """Train a `Classifier` on `Pictures`: its history, and the model."""
    torch.manual_seed(weights)
    model = Classifier(lr)
    if on_step:
        model.on_step = lambda: on_step(model.trainer)
    options = {"schedule": one_cycle, "gradient_clip_val": 1.0, "seed": 3} | QUIET
    trainer = Trainer(max_epochs, checkpoint=checkpoint, **options | changes)
    return trainer.fit(model, data or Pictures()), model


def at(step, action):
    """For `on_step`: act at a step, which is counted over all epochs."""
    return lambda t: action(t) if t.train_batch_idx == step else None


def interrupt(trainer):
    raise KeyboardInterrupt


def without_seconds(history):
    return [{k: v for k, v in row.items() if k != "seconds"} for row in history]


def assert_equal_states(ours, theirs):
    """Assert that two modules hold the same numbers, bit for bit."""
    ours, theirs = ours.state_dict(), theirs.state_dict()
    assert ours.keys() == theirs.keys()
    for key, value in ours.items():
        assert torch.equal(value, theirs[key]), key


def small_fashion_mnist(folder, monkeypatch):
    """Let the four files be small ones of random pictures, lying in `folder`.

    Returns their contents by name, not compressed.
    """
    random, contents, sums = np.random.default_rng(0), {}, {}
    labels = {
        "train": random.permutation(np.repeat(np.arange(10), 8)),
        "t10k": random.integers(10, size=23),
    }
    for part, y in labels.items():
        images = random.integers(256, size=(len(y), 28, 28))
        for kind, array in (("images", images), ("labels", y)):
            shape = np.array(array.shape, dtype=">u4").tobytes()
            data = bytes([0, 0, 8, array.ndim]) + shape + array.astype("u1").tobytes()
            contents[f"{part}-{kind}-idx{array.ndim}-ubyte"] = data
            sums[f"{part}-{kind}"] = hashlib.sha256(data).hexdigest()
    monkeypatch.setattr(fashion_mnist, "SHA_256", sums)
    monkeypatch.setattr(fashion_mnist, "VALIDATION_PER_CLASS", 2)
    Path(folder).mkdir(parents=True, exist_ok=True)
    for name, data in contents.items():
        Path(folder, f"{name}.gz").write_bytes(gzip.compress(data))
    return contents


def small_house_prices(folder, monkeypatch, frame):
    """Let Kaggle's two files be small ones made of De Cock's sales, in `folder`.

    Returns their contents by name.
    """
    frame = frame[:80].reset_index(drop=True)
    frame.insert(0, "Id", frame.index + 1)
    test = frame[60:].drop(columns="SalePrice")
    contents, sums = {}, {}
    Path(folder).mkdir(parents=True, exist_ok=True)
    for part, sales in (("train", frame[:60]), ("test", test)):
        data = sales.to_csv(index=False, na_rep="NA").encode()
        contents[name := f"kaggle_house_pred_{part}.csv"] = data
        sums[part] = hashlib.sha1(data).hexdigest()
        Path(folder, name).write_bytes(data)
    monkeypatch.setattr(house_prices, "KAGGLE_SHA_1", sums)
    return contents
