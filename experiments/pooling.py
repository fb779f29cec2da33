"""Exercise 1: average pooling in the transitions, maximum pooling, or neither.

All three have the same parameters and pool before they convolve. `avg` is the
DenseNet of exercise 2 (`parameters`), trained alike, and not trained twice: its
records are that experiment's.
"""

from typing import Any

from d2l_dense import DenseNet, records
from experiments import parameters
from experiments.training import Run, train

BASELINE = "parameters", "densenet"  # the experiment and arm that hold `avg`
_AVERAGE = parameters.ARMS["densenet"]
ARMS: dict[str, dict[str, Any]] = {
    pool: _AVERAGE | {"model": _AVERAGE["model"] | {"pool": pool}}
    for pool in ("max", "stride")
}


def execute(run: Run) -> records.Record:
    """Train one arm from one seed, or go on with it; return its record."""
    return train(run, DenseNet, ARMS[run.arm])
