"""The networks trained on Fashion-MNIST: experiments, their arms, and one run.

- densenet: the chapter's model by two recipes, D2L's and ours.
- parameters (exercise 2): the chapter's model, ResNet-18, and ResNet-18 narrowed to
  the same number of parameters. Our recipe at 64x64, for 6 epochs, as all that follow.
- pooling (exercise 1): max pooling, or every second pixel, instead of the average.
- details: convolution before batch normalization; PyTorch's initial weights.
- sparse (exercise 3): each layer reads two of its sources.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from d2l import torch as d2l

from d2l_dense import DenseNet, FashionMNIST, Trainer, one_cycle, records
from experiments.networks import ResNet, default_init, post_activation, sparse_densenet

OURS: dict[str, Any] = {
    "model": {"lr": 0.15, "momentum": 0.9, "weight_decay": 5e-4},
    "data": {"batch_size": 128, "resize": [96, 96], "flip": True},
    "max_epochs": 10,
    "schedule": "one_cycle",
}
D2L = OURS | {"model": {"lr": 0.01}, "schedule": None}
D2L["data"] = OURS["data"] | {"flip": False}


def small(**model: Any) -> dict[str, Any]:
    """Our recipe on images of 64x64, for 6 epochs."""
    data = OURS["data"] | {"resize": [64, 64]}
    return OURS | {"model": OURS["model"] | model, "data": data, "max_epochs": 6}


# By experiment and arm: the network, and how it is made and trained.
ARMS: dict[str, dict[str, tuple[Callable[..., d2l.Classifier], dict[str, Any]]]] = {
    "densenet": {"ours": (DenseNet, OURS), "d2l": (DenseNet, D2L)},
    "parameters": {
        "densenet": (DenseNet, small()),
        "resnet18": (ResNet, small()),
        # 0.26 times ResNet-18's widths: 760,116 parameters against 758,226.
        "narrow_resnet": (ResNet, small(widths=[17, 33, 67, 133])),
    },
    "pooling": {pool: (DenseNet, small(pool=pool)) for pool in ("max", "stride")},
    "details": {
        "post_activation": (post_activation, small()),
        "default_init": (default_init, small()),
    },
    "sparse": {"two_sources": (sparse_densenet, small(sources=2))},
}


class Run(NamedTuple):
    """Which run it is, on which type of device, with which checkpoint and precision."""

    experiment: str
    arm: str
    seed: int
    device: str
    checkpoints: Path
    precision: str = "32-true"


def train(run: Run) -> tuple[Trainer, d2l.Classifier, FashionMNIST]:
    """Train one arm from one seed, or go on with it; return what took part."""
    network, configuration = ARMS[run.experiment][run.arm]
    torch.manual_seed(run.seed)  # of the initial weights
    model = network(**configuration["model"])
    data = FashionMNIST(**configuration["data"])
    name = f"{run.experiment}-{run.arm}-{run.seed}-{run.device}.pt"
    trainer = Trainer(
        configuration["max_epochs"],
        schedule=one_cycle if configuration["schedule"] else None,
        seed=run.seed,
        accelerator=run.device,
        precision=run.precision,
        checkpoint=run.checkpoints / name,
    )
    trainer.fit(model, data)
    data.train.flip = False
    return trainer, model, data


def execute(run: Run) -> records.Record:
    """Train, and return the history and what the trained network is worth."""
    trainer, model, data = train(run)
    configuration = ARMS[run.experiment][run.arm][1]
    found = {"configuration": configuration, "history": trainer.history}
    for split in ("train", "val", "test"):
        loader = getattr(data, f"{split}_dataloader")()
        for key, value in trainer.evaluate(model, loader).items():
            found[f"{split}_{key}"] = value
    return found
