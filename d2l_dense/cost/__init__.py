"""What a network costs, by arithmetic alone (standard library only)."""

from d2l_dense.cost.densenet import DEFAULTS, block_parameters, channels, summary
from d2l_dense.cost.mlp import mlp_parameters
from d2l_dense.cost.peak import MEMORY, Peak, largest_batch, peak
from d2l_dense.cost.resnet import RESNETS, resnet
from d2l_dense.cost.tape import Row, Summary

__all__ = [
    "DEFAULTS",
    "MEMORY",
    "RESNETS",
    "Peak",
    "Row",
    "Summary",
    "block_parameters",
    "channels",
    "largest_batch",
    "mlp_parameters",
    "peak",
    "resnet",
    "summary",
]
