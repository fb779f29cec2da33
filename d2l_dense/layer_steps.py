"""A layer taken apart, so that a dense block can run its steps itself."""

from typing import NamedTuple

from torch import Tensor, nn
from torch.nn import functional as F

_HOOKS = (
    "_forward_hooks",
    "_forward_pre_hooks",
    "_backward_hooks",
    "_backward_pre_hooks",
)


class Step(NamedTuple):
    """BN, ReLU and a convolution."""

    norm: nn.BatchNorm2d
    conv: nn.Conv2d

    def tensors(self) -> tuple[Tensor | None, ...]:
        return self.norm.weight, self.norm.bias, self.conv.weight, self.conv.bias

    @property
    def of_batch(self) -> bool:
        """Whether it normalises by the batch's own statistics."""
        return self.norm.training or self.norm.running_mean is None

    def convolve(self, Z: Tensor) -> Tensor:
        conv = self.conv
        bias = None if conv.bias is None else conv.bias.to(Z.dtype)
        return F.conv2d(
            Z, conv.weight.to(Z.dtype), bias,
            conv.stride, conv.padding, conv.dilation, conv.groups,
        )  # fmt: skip


def take_apart(layer: nn.Sequential) -> list[Step]:
    """Take a layer apart, or refuse it."""
    kinds = [type(module) for module in layer.children()]
    fits = kinds in ([nn.BatchNorm2d, nn.ReLU, nn.Conv2d] * n for n in (1, 2))
    fits = fits and type(layer) is nn.Sequential
    fits = fits and all(norm.affine for norm in layer[::3])
    fits = fits and {"zeros"} == {c.padding_mode for c in layer[2::3]}
    fits = fits and not any(isinstance(c.padding, str) for c in layer[2::3])
    if not fits or any(getattr(m, hook) for m in layer.modules() for hook in _HOOKS):
        raise ValueError(
            "memory='shared' computes BatchNorm2d, ReLU and Conv2d, once or twice, "
            f"without hooks; found {layer}. Use memory='checkpoint' or 'plain'."
        )
    return [Step(layer[i], layer[i + 2]) for i in range(0, len(layer), 3)]
