"""Does the trained network need all that its layers read, and what does it get wrong?

Weights of the trained network become zero, and none is trained anew. `recalibrated`:
batch normalization has measured its means and variances again, on training images.
Seed 0 is the network whose weights come with the book. Any other is trained first, as
the chapter's model of the experiment `parameters`, unless its checkpoint is there.
"""

import copy
import random
import time
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn

from d2l_dense import DenseNet, FashionMNIST, Trainer, records, trained_densenet
from d2l_dense.trainer import to_device
from experiments.training import Run, train

ARMS: dict[str, dict[str, Any]] = {
    # Layers, or transitions and classifier too, keep only their latest sources.
    "layers": {"images": 10_000, "steps": [1, 2, 3, 4], "cut_after": False},
    "all": {"images": 10_000, "steps": [1, 2, 3, 4, 5], "cut_after": True},
    # Or all but one; or of the earliest only as many channels as the latest has.
    "ablation": {"images": 2_000, "kept": [1, 2, 3], "draws": 3, "lost": [0, 1, 2, 3]},
    "mistakes": {"images": 10_000, "hardest": 10},
}
# Of a layer's sources 0 (the block's input), 1, ..., those that it keeps.
KEPT = {
    "latest": lambda sources, m: sources[-m:],
    "earliest": lambda sources, m: sources[:m],
    "random": lambda sources, m: random.sample(sources, min(m, len(sources))),
    # A block's first layer keeps its only source.
    "without": lambda sources, m: [j for j in sources if j != m] or sources,
}


def execute(run: Run) -> records.Record:
    """Count what the network gets right, ablated or whole."""
    arm = ARMS[run.arm]
    trainer = Trainer(accelerator=run.device, precision="32-true", progress=False)
    net, source = trained_densenet()
    if run.seed:
        same = {key: source[key] for key in ("experiment", "arm")}
        _, model, _ = train(run._replace(**same))
        net.load_state_dict(model.state_dict())
    options = source["configuration"]["data"] | {"flip": False}
    data = FashionMNIST(**options, limit=arm["images"]).to(trainer.device)
    to_device(net, trainer.device)
    random.seed(run.seed)  # of the sources
    torch.manual_seed(run.seed)  # of channels and the order of training images
    start = time.perf_counter()
    if run.arm == "mistakes":
        figures = mistakes(net, data, arm["hardest"])
    else:
        figures, test = {}, data.test_dataloader()
        batches = [*data.train_dataloader()]  # the same for every ablation
        for name, changed in ablations(net, arm):
            figures[name] = {}
            if "steps" in arm:
                figures[name]["accuracy"] = trainer.evaluate(changed, test)["accuracy"]
            update_bn(batches, changed)
            figures[name]["recalibrated"] = trainer.evaluate(changed, test)["accuracy"]
    history = [{"epoch": 1, "seconds": time.perf_counter() - start}]
    return {"configuration": arm, "history": history, "figures": figures}


def ablations(net: DenseNet, arm: dict[str, Any]) -> Iterator[tuple[str, DenseNet]]:
    """Yield each ablated network, with the name of its figures in the record."""
    if "steps" in arm:
        for m in arm["steps"]:
            yield str(m), ablated(net, "latest", m, arm["cut_after"])
        return
    yield "whole", copy.deepcopy(net)
    for m in arm["kept"]:
        yield f"latest {m}", ablated(net, "latest", m)
        yield f"earliest {m}", ablated(net, "earliest", m)
        for draw in range(arm["draws"]):
            yield f"random {m}, draw {draw}", ablated(net, "random", m)
    for lost in arm["lost"]:
        yield f"without {lost}", ablated(net, "without", lost)
    for draw in range(arm["draws"]):
        yield f"narrow, draw {draw}", narrowed(net)


def reading_weights(net: DenseNet) -> Iterator[list[Tensor]]:
    """For each block, the weights that read its features: layers', then what follows.

    Shape: (made, read, ...)
    """
    stages = dict(net.net.named_children())
    for i in range(1, len(net.arch) + 1):
        last = stages.get(f"transition{i}", stages["head"])
        yield [reader[-1].weight for reader in (*stages[f"block{i}"].layers, last)]


def ablated(net: DenseNet, which: str, m: int, after: bool = False) -> DenseNet:
    """Return a copy whose layers (`after`: and what follows) keep only some sources."""
    net = copy.deepcopy(net)
    k = net.growth_rate
    with torch.no_grad():
        for block in reading_weights(net):
            width = block[0].shape[1]  # channels of source 0
            for i, weight in enumerate(block if after else block[:-1]):
                sources = weight.split([width] + i * [k], dim=1)
                numbers = [*range(i + 1)]
                for lost in {*numbers} - {*KEPT[which](numbers, m)}:
                    sources[lost].zero_()
    return net


def narrowed(net: DenseNet) -> DenseNet:
    """Return a copy whose later layers read k of the block's input's channels."""
    net = ablated(net, "earliest", 1)
    with torch.no_grad():
        for first, *others, _ in reading_weights(net):
            for weight in others:
                weight[:, torch.randperm(first.shape[1])[net.growth_rate :]] = 0
    return net


def mistakes(net: DenseNet, data: FashionMNIST, hardest: int) -> dict[str, Any]:
    """Confusion matrix (true, predicted); image, true, predicted of largest loss."""
    with torch.no_grad():
        batches = [(net(X), y) for X, y in data.test_dataloader()]
    logits, y = (torch.cat(parts).cpu() for parts in zip(*batches, strict=True))
    predicted = logits.argmax(1)
    confusion = torch.bincount(10 * y + predicted, minlength=100).view(10, 10)
    losses = nn.functional.cross_entropy(logits, y, reduction="none")
    worst = losses.topk(hardest).indices
    rows = torch.stack((worst, y[worst], predicted[worst]), dim=1)
    return {"confusion": confusion.tolist(), "hardest": rows.tolist()}
