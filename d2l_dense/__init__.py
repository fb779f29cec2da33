"""Densely connected networks: the code behind the chapter."""

from importlib.util import find_spec

if find_spec("d2l") is None:
    advice = "install it alone, with pip install --no-deps d2l==1.0.3"
    raise ModuleNotFoundError(f"d2l_dense needs the package d2l: {advice}", name="d2l")

from d2l_dense import cost, exercises, memory, plots, records
from d2l_dense.blocks import DenseBlock, TransitionBlock, conv_block
from d2l_dense.densenet import VARIANTS, DenseNet
from d2l_dense.fashion_mnist import FashionMNIST
from d2l_dense.house_prices import AmesHousing
from d2l_dense.mlp import DenseMLP
from d2l_dense.records import trained_densenet
from d2l_dense.trainer import Trainer, one_cycle
