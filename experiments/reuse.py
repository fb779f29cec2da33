"""Does the trained network need what its layers read, and what does it get wrong?

Takes the network of `d2l_dense.trained`, cuts the connections that are longer than
so many steps, and counts what it still gets right. No weight is trained anew.
`recalibrated` means that batch normalization has measured its means and variances
again, on training images, because what enters it after a cut has others.
"""

import copy
import time
from typing import Any

import torch
from torch import nn

from d2l_dense import DenseNet, FashionMNIST, Trainer, records, trained_densenet
from d2l_dense.trained import readers
from experiments.provenance import provenance
from experiments.training import Run

ARMS: dict[str, dict[str, Any]] = {
    "layers": {"images": 10_000, "steps": [1, 2, 3, 4], "cut_after": False},
    "all": {"images": 10_000, "steps": [1, 2, 3, 4, 5], "cut_after": True},
    "mistakes": {"images": 10_000, "hardest": 10},
}


def execute(run: Run) -> records.Record:
    """Count what the network gets right, cut or whole; return the record."""
    arm = ARMS[run.arm]
    trainer = Trainer(accelerator=run.device, precision="32-true", progress=False)
    net, source = trained_densenet()
    options = source["configuration"]["data"] | {"flip": False}
    data = FashionMNIST(**options, limit=arm["images"]).to(trainer.device)
    net = net.to(trainer.device)
    torch.manual_seed(run.seed)  # of the order of the training images
    origin = provenance(trainer.device, trainer.precision)
    count = _mistakes if run.arm == "mistakes" else _cuts
    figures, turns = count(trainer, net, data, arm)
    return run.record(arm, origin, turns, figures=figures)


def _cuts(
    trainer: Trainer, net: DenseNet, data: FashionMNIST, arm: dict[str, Any]
) -> tuple[Any, Any]:
    """Accuracy by the number of sources that a reader hears."""
    figures: dict[str, dict[str, float]] = {}
    turns = []
    for i, steps in enumerate(arm["steps"], start=1):
        start = time.perf_counter()
        shorter = cut(net, steps, arm["cut_after"])
        before = trainer.evaluate(shorter, data.test_dataloader())["accuracy"]
        recalibrate(shorter, data.train_dataloader())
        after = trainer.evaluate(shorter, data.test_dataloader())["accuracy"]
        figures[str(steps)] = {"accuracy": before, "recalibrated": after}
        turns.append({"epoch": i, "seconds": time.perf_counter() - start})
    return figures, turns


def _mistakes(
    _: Trainer, net: DenseNet, data: FashionMNIST, arm: dict[str, Any]
) -> tuple[Any, Any]:
    """Confusion matrix (true class, predicted class), and the costliest images."""
    start = time.perf_counter()
    with torch.no_grad():
        batches = [(net(X), y) for X, y in data.test_dataloader()]
    logits, y = (torch.cat(parts) for parts in zip(*batches, strict=True))
    predicted = logits.argmax(1)
    confusion = torch.zeros(10, 10, dtype=torch.int64, device=y.device)
    confusion.index_put_((y, predicted), torch.ones_like(y), accumulate=True)
    losses = nn.functional.cross_entropy(logits, y, reduction="none")
    hardest = losses.topk(arm["hardest"]).indices
    columns = hardest, y[hardest], predicted[hardest]
    figures = {
        "confusion": confusion.tolist(),
        "hardest": torch.stack(columns, dim=1).tolist(),  # image, true, predicted
    }
    return figures, [{"epoch": 1, "seconds": time.perf_counter() - start}]


def cut(net: DenseNet, steps: int, after: bool) -> DenseNet:
    """Return a copy in which a reader hears only the so many latest of its sources.

    Sources of layer i are the block's input and layers 1 to i - 1.

    Args:
        after: cut what transitions and classifier read as well.
    """
    net = copy.deepcopy(net)
    with torch.no_grad():
        for block in readers(net):
            for earlier, (_, weight) in enumerate(block if after else block[:-1]):
                if steps <= earlier:  # it has one source more than earlier layers
                    weight[:, : weight.shape[1] - steps * net.growth_rate] = 0
    return net


def recalibrate(net: nn.Module, loader: Any) -> None:
    """Measure the statistics of batch normalization again, on these images."""
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.reset_running_stats()
            module.momentum = None  # the mean over all batches
    net.train()
    with torch.no_grad():
        for X, _ in loader:
            net(X)
    net.eval()
