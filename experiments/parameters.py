"""Exercise 2: what accuracy do a DenseNet's parameters buy, and a ResNet's?

The chapter's model, a network of ResNet-18's form, and the same form narrowed to
the DenseNet's number of parameters. The chapter's recipe, at 64x64, for 6 epochs.
"""

from typing import Any

from d2l_dense import DenseNet, records
from experiments import densenet
from experiments.resnet import ResNet
from experiments.training import Run, train

NETWORKS: dict[str, type[DenseNet] | type[ResNet]] = {
    "densenet": DenseNet,
    "resnet18": ResNet,
    "narrow_resnet": ResNet,
}
# 0.26 times ResNet-18's widths: 760,116 parameters against 758,226.
_ARGUMENTS = {"narrow_resnet": {"widths": [17, 33, 67, 133]}}
_RECIPE = densenet.ARMS["ours"]
ARMS: dict[str, dict[str, Any]] = {
    arm: _RECIPE
    | {
        "model": _RECIPE["model"] | _ARGUMENTS.get(arm, {}),
        "data": _RECIPE["data"] | {"resize": [64, 64]},
        "max_epochs": 6,
    }
    for arm in NETWORKS
}


def execute(run: Run) -> records.Record:
    """Train one arm from one seed, or go on with it; return its record."""
    return train(run, NETWORKS[run.arm], ARMS[run.arm])
