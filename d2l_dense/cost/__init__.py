"""What a network costs, by arithmetic alone (standard library only)."""

from d2l_dense.cost.densenet import block_parameters, channels, summary
from d2l_dense.cost.mlp import mlp_parameters
from d2l_dense.cost.resnet import RESNETS, resnet
from d2l_dense.cost.tape import Row, Summary

__all__ = [
    "RESNETS",
    "Row",
    "Summary",
    "block_parameters",
    "channels",
    "mlp_parameters",
    "resnet",
    "summary",
]
