"""What comes before the first block, and how weights begin."""

from torch import Tensor, nn

from d2l_dense.recompute import Lean
from d2l_dense.shared_stem import stem
from d2l_dense.take_apart import of_stem


class _ImageNetStem(Lean):
    def shared(self, X: Tensor) -> Tensor:
        return stem(X, *of_stem(self))


def imagenet_stem(in_channels: int, num_channels: int, bias: bool) -> Lean:
    """A quarter of the side: (N, in_channels, H, W) -> (N, num_channels, H/4, W/4)."""
    # ReLU never decreases, so the maximum of ReLU is ReLU of the maximum: after
    # the pooling, it has a quarter of the work.
    return _ImageNetStem(
        nn.Conv2d(in_channels, num_channels, 7, stride=2, padding=3, bias=bias),
        nn.BatchNorm2d(num_channels),
        nn.MaxPool2d(kernel_size=3, stride=2, padding=1),
        nn.ReLU(inplace=True),
    )


def _cifar_stem(in_channels: int, num_channels: int, bias: bool) -> nn.Sequential:
    conv = nn.Conv2d(in_channels, num_channels, kernel_size=3, padding=1, bias=bias)
    return nn.Sequential(conv)


STEMS = {"imagenet": imagenet_stem, "cifar": _cifar_stem}


def initialise(module: nn.Module) -> None:
    """Start a layer as He et al. (2015) do; the paper, section 4.2."""
    if isinstance(module, nn.Conv2d):
        nn.init.kaiming_normal_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Linear):
        nn.init.zeros_(module.bias)
