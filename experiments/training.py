"""The networks trained on Fashion-MNIST: experiments, their arms, and one run.

- densenet: the chapter's model by two recipes. `d2l` is D2L's: SGD at 0.01. `ours`
  adds Nesterov momentum, weight decay, one cycle of the learning rate, and mirrored
  images.
- parameters (exercise 2): the chapter's model, ResNet-18, and ResNet-18 narrowed to
  the same number of parameters. Our recipe at 64x64, for 6 epochs, as all that follow.
- pooling (exercise 1): max pooling in the transitions, or every second pixel. The
  average is `densenet` of `parameters`.
- details: convolution before batch normalization; PyTorch's initial weights.
- sparse (exercise 3): each layer reads two of its sources.
"""

from pathlib import Path
from typing import Any, NamedTuple

import torch
from d2l import torch as d2l

from d2l_dense import DenseNet, FashionMNIST, Trainer, one_cycle, records
from experiments.networks import DefaultInit, PostActivation, ResNet, SparseDenseNet
from experiments.provenance import provenance

OURS: dict[str, Any] = {
    "model": {"lr": 0.15, "momentum": 0.9, "weight_decay": 5e-4},
    "data": {"batch_size": 128, "resize": [96, 96], "flip": True},
    "max_epochs": 10,
    "schedule": "one_cycle",
}
D2L = {
    "model": {"lr": 0.01},
    "data": {"batch_size": 128, "resize": [96, 96], "flip": False},
    "max_epochs": 10,
    "schedule": None,
}


def small(**model: Any) -> dict[str, Any]:
    """Our recipe on images of 64x64, for 6 epochs."""
    return OURS | {
        "model": OURS["model"] | model,
        "data": OURS["data"] | {"resize": [64, 64]},
        "max_epochs": 6,
    }


# By experiment and arm: the network, and how it is made and trained.
ARMS: dict[str, dict[str, tuple[type[d2l.Classifier], dict[str, Any]]]] = {
    "densenet": {"ours": (DenseNet, OURS), "d2l": (DenseNet, D2L)},
    "parameters": {
        "densenet": (DenseNet, small()),
        "resnet18": (ResNet, small()),
        # 0.26 times ResNet-18's widths: 760,116 parameters against 758,226.
        "narrow_resnet": (ResNet, small(widths=[17, 33, 67, 133])),
    },
    "pooling": {pool: (DenseNet, small(pool=pool)) for pool in ("max", "stride")},
    "details": {
        "post_activation": (PostActivation, small()),
        "default_init": (DefaultInit, small()),
    },
    "sparse": {"two_sources": (SparseDenseNet, small(sources=2))},
}


class Run(NamedTuple):
    """Which run it is, on which type of device, with which checkpoint and precision."""

    experiment: str
    arm: str
    seed: int
    device: str
    checkpoints: Path
    precision: str = "auto"

    def record(
        self,
        configuration: dict[str, Any],
        origin: dict[str, Any],
        history: list[dict[str, float]],
        **found: Any,
    ) -> records.Record:
        """What every record has, and what the run has found."""
        return {
            "experiment": self.experiment,
            "arm": self.arm,
            "seed": self.seed,
            "configuration": configuration,
            **origin,
            "seconds": sum(row["seconds"] for row in history),
            "history": history,
            **found,
        }


def execute(run: Run) -> records.Record:
    """Train one arm from one seed, or go on with it; return its record."""
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
    origin = provenance(trainer.device, trainer.precision)
    history = trainer.fit(model, data)
    data.train.flip = False
    found = {}
    for split, loader in {
        "train": data.train_dataloader(),
        "val": data.val_dataloader(),
        "test": data.test_dataloader(),
    }.items():
        averages = trainer.evaluate(model, loader)
        found |= {f"{split}_{key}": value for key, value in averages.items()}
    return run.record(configuration, origin, history, **found)
