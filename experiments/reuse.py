"""Does the trained network need all that its layers read, and what does it get wrong?

Takes the network of `d2l_dense.pretrained`, removes connections by setting weights to
zero, and counts what it still gets right. No weight is trained anew. `recalibrated`
means that batch normalization has measured its means and variances again, on training
images, because its input has changed.
"""

import copy
import random
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn
from torch.utils.data import DataLoader

from d2l_dense import DenseNet, FashionMNIST, Trainer, records, trained_densenet
from d2l_dense.trainer import to_device
from experiments.provenance import provenance
from experiments.training import Run

ARMS: dict[str, dict[str, Any]] = {
    # Layers, or transitions and classifier too, keep only their latest sources.
    "layers": {"images": 10_000, "steps": [1, 2, 3, 4], "cut_after": False},
    "all": {"images": 10_000, "steps": [1, 2, 3, 4, 5], "cut_after": True},
    # Layers keep m sources, the latest, the earliest or drawn at random; or lose one;
    # or keep of the earliest only as many channels as the latest has.
    "ablation": {"images": 2_000, "kept": [1, 2, 3], "draws": 3, "lost": [0, 1, 2, 3]},
    "mistakes": {"images": 10_000, "hardest": 10},
}
# Of a layer's sources, 0 (the block's input), 1, ..., those that it keeps.
Keep = Callable[[list[int]], list[int]]


def execute(run: Run) -> records.Record:
    """Count what the network gets right, ablated or whole; return the record."""
    arm = ARMS[run.arm]
    trainer = Trainer(accelerator=run.device, precision="32-true", progress=False)
    net, source = trained_densenet()
    options = source["configuration"]["data"] | {"flip": False}
    data = FashionMNIST(**options, limit=arm["images"]).to(trainer.device)
    to_device(net, trainer.device)
    random.seed(run.seed)  # of the sources
    torch.manual_seed(run.seed)  # of channels and the order of training images
    origin = provenance(trainer.device, trainer.precision)
    start = time.perf_counter()
    if run.arm == "mistakes":
        figures = mistakes(net, data, arm["hardest"])
    else:
        batches = [*data.train_dataloader()]  # the same for every ablation
        test, before = data.test_dataloader(), "steps" in arm
        figures = {
            name: accuracy(trainer, changed, test, batches, before)
            for name, changed in ablations(net, arm)
        }
    turns = [{"epoch": 1, "seconds": time.perf_counter() - start}]
    return run.record(arm, origin, turns, figures=figures)


def latest(m: int) -> Keep:
    return lambda sources: sources[-m:]


def earliest(m: int) -> Keep:
    return lambda sources: sources[:m]


def drawn(m: int) -> Keep:
    return lambda sources: random.sample(sources, min(m, len(sources)))


def without(lost: int) -> Keep:
    # A block's first layer keeps its only source.
    return lambda sources: [j for j in sources if j != lost] or sources


def ablations(net: DenseNet, arm: dict[str, Any]) -> Iterator[tuple[str, DenseNet]]:
    """Yield each ablated network, with the name of its figures in the record."""
    if "steps" in arm:
        for m in arm["steps"]:
            yield str(m), ablated(net, latest(m), arm["cut_after"])
        return
    yield "whole", copy.deepcopy(net)
    for m in arm["kept"]:
        yield f"latest {m}", ablated(net, latest(m))
        yield f"earliest {m}", ablated(net, earliest(m))
        for draw in range(arm["draws"]):
            yield f"random {m}, draw {draw}", ablated(net, drawn(m))
    for lost in arm["lost"]:
        yield f"without {lost}", ablated(net, without(lost))
    for draw in range(arm["draws"]):
        yield f"narrow, draw {draw}", narrowed(net)


def readers(net: DenseNet) -> Iterator[list[Tensor]]:
    """For each block, the weights that read its features: layers', then what follows.

    Shape: (made, read, 3, 3) of a layer, (made, read, 1, 1) of a transition,
    (classes, read) of the classifier.
    """
    stages = dict(net.net.named_children())
    for i in range(1, len(net.arch) + 1):
        last = stages.get(f"transition{i}", stages["head"])
        yield [reader[-1].weight for reader in (*stages[f"block{i}"].layers, last)]


def ablated(net: DenseNet, keep: Keep, after: bool = False) -> DenseNet:
    """Return a copy whose layers read only some of their sources.

    Args:
        keep: of the sources of a layer, 0, 1, ..., those that it keeps.
        after: transitions and the classifier as well.
    """
    net = copy.deepcopy(net)
    with torch.no_grad():
        for block in readers(net):
            k = net.growth_rate
            width = block[0].shape[1]  # channels of source 0
            for i, weight in enumerate(block if after else block[:-1]):
                parts = weight.split([width] + i * [k], dim=1)
                for lost in {*range(i + 1)} - {*keep([*range(i + 1)])}:
                    parts[lost].zero_()
    return net


def narrowed(net: DenseNet) -> DenseNet:
    """Return a copy whose later layers read k of the block's input's channels."""
    net = ablated(net, earliest(1))
    with torch.no_grad():
        for first, *others, _ in readers(net):
            for weight in others:
                weight[:, torch.randperm(first.shape[1])[net.growth_rate :]] = 0
    return net


def accuracy(
    trainer: Trainer,
    net: DenseNet,
    test: DataLoader,
    batches: Iterable[Any],
    before: bool,
) -> dict[str, float]:
    """Accuracy with batch statistics measured again on `batches`; and before that."""
    found = {}
    if before:
        found["accuracy"] = trainer.evaluate(net, test)["accuracy"]
    update_bn(batches, net)
    return found | {"recalibrated": trainer.evaluate(net, test)["accuracy"]}


def mistakes(net: DenseNet, data: FashionMNIST, hardest: int) -> dict[str, Any]:
    """Confusion matrix (true class, predicted class), and images of largest loss."""
    with torch.no_grad():
        batches = [(net(X), y) for X, y in data.test_dataloader()]
    logits, y = (torch.cat(parts) for parts in zip(*batches, strict=True))
    predicted = logits.argmax(1)
    confusion = torch.zeros(10, 10, dtype=torch.int64, device=y.device)
    confusion.index_put_((y, predicted), torch.ones_like(y), accumulate=True)
    losses = nn.functional.cross_entropy(logits, y, reduction="none")
    worst = losses.topk(hardest).indices
    columns = worst, y[worst], predicted[worst]
    return {
        "confusion": confusion.tolist(),
        "hardest": torch.stack(columns, dim=1).tolist(),  # image, true, predicted
    }
