"""The data sets, and the one place that finds, fetches and verifies files."""

from d2l_dense.data.ames import AmesHousing
from d2l_dense.data.fashion_mnist import FashionMNIST

__all__ = ["AmesHousing", "FashionMNIST"]
