"""Densely connected networks: the code behind the chapter.

Every public object's docstring names the section of the paper it follows and
the chapter that explains it.
"""

try:
    from d2l import torch as _d2l  # noqa: F401
except ModuleNotFoundError as error:
    if error.name != "d2l":
        raise
    raise ModuleNotFoundError(
        "d2l_dense needs the package d2l, which is not installed. Its pins "
        "cannot be met beside today's PyTorch, so install it alone: "
        "pip install --no-deps -r requirements-d2l.txt "
        "(that is, pip install --no-deps d2l==1.0.3)",
        name="d2l",
    ) from None

from d2l_dense import cost, memory, plots, records
from d2l_dense.blocks import DenseBlock, TransitionBlock, conv_block
from d2l_dense.densenet import DenseNet
from d2l_dense.engine import one_cycle
from d2l_dense.fashion_mnist import FashionMNIST
from d2l_dense.house_prices import AmesHousing
from d2l_dense.mlp import DenseMLP
from d2l_dense.trained import trained_densenet
from d2l_dense.trainer import Trainer
from d2l_dense.variants import VARIANTS

__all__ = [
    "VARIANTS",
    "AmesHousing",
    "DenseBlock",
    "DenseMLP",
    "DenseNet",
    "FashionMNIST",
    "Trainer",
    "TransitionBlock",
    "conv_block",
    "cost",
    "memory",
    "one_cycle",
    "plots",
    "records",
    "trained_densenet",
]
