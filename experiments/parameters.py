"""Exercise 2: what accuracy do a DenseNet's parameters buy, and a ResNet's?

The chapter's model, a network of ResNet-18's form, and the same form narrowed to
the DenseNet's number of parameters. One recipe, 64x64, 6 epochs.
"""

from typing import Any

from d2l_dense import DenseNet, records
from experiments.resnet import ResNet
from experiments.training import Run, train

_RECIPE = {"lr": 0.15, "momentum": 0.9, "weight_decay": 5e-4}
_NETWORKS: dict[str, dict[str, Any]] = {
    "densenet": {},
    "resnet18": {"widths": [64, 128, 256, 512]},
    # 0.26 times ResNet-18's widths: 760,116 parameters against 758,226.
    "narrow_resnet": {"widths": [17, 33, 67, 133]},
}
ARMS: dict[str, dict[str, Any]] = {
    arm: {
        "model": network | _RECIPE,
        "data": {"batch_size": 128, "resize": [64, 64], "flip": True},
        "max_epochs": 6,
        "schedule": "one_cycle",
    }
    for arm, network in _NETWORKS.items()
}


def network(arm: str) -> type[DenseNet] | type[ResNet]:
    """The class of an arm's network."""
    return DenseNet if arm == "densenet" else ResNet


def execute(run: Run) -> records.Record:
    """Train one arm from one seed, or go on with it; return its record."""
    return train(run, network(run.arm), ARMS[run.arm])
