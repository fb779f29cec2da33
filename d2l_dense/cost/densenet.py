"""The closed forms of a DenseNet."""

from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import Any

from d2l_dense.cost.tape import Summary, Tape, check, merge, require, total

DEFAULTS = dict(
    num_channels=64, growth_rate=32, arch=(4, 4, 4, 4), lr=0.1, num_classes=10,
    in_channels=1, bottleneck=None, compression=0.5, pool="avg", bias=True,
    stem="imagenet", momentum=0.0, weight_decay=0.0, memory="plain",
)  # fmt: skip


def channels(in_channels: int, i: int, growth_rate: int) -> int:
    """Channels after layer i, c + ik. Source: see `block_parameters`."""
    return in_channels + i * growth_rate


def block_parameters(
    in_channels: int,
    num_layers: int,
    growth_rate: int,
    bottleneck: int | None = None,
    bias: bool = True,
) -> int:
    """Parameters of a dense block of L layers, L (sc + f) + sk L (L - 1) / 2.

    A layer costs s for each channel that it reads (2 + 9k, or 2 + bk with a
    bottleneck) and f besides; it reads k channels more than the one before.

    Raises: ValueError, if a count is not a whole number of 1 or more.
    Source: Huang et al. (2017), section 3. Chapter: "Dense blocks".
    """
    check(in_channels=in_channels, num_layers=num_layers)
    check(growth_rate=growth_rate)
    slope, fixed = 2 + 9 * growth_rate, bias * growth_rate
    if bottleneck is not None:
        check(bottleneck=bottleneck)
        m = bottleneck * growth_rate
        slope, fixed = 2 + m, (slope + bias) * m + fixed
    last = in_channels + (num_layers - 1) * growth_rate  # what layer L reads
    return num_layers * (slope * (in_channels + last) + 2 * fixed) // 2


def summary(
    config: Mapping[str, Any],
    input_shape: Sequence[int],
    *,
    pool_first: bool = True,
    bytes_per_element: int = 4,
) -> Summary:
    """Count a DenseNet, layer by layer, for a batch of shape (N, C, H, W).

    Args:
        config: keyword arguments of `DenseNet`, with the same defaults.
        pool_first: transitions pool, then convolve; torchvision: False.
        bytes_per_element: of an activation, 4 for float32.

    MACs are those of convolutions and the linear layer. Activation bytes are
    what a layer writes and the backward pass reads if memory="plain": each
    output of BN (ReLU works in place), pooling (a stride writes nothing),
    concatenation and convolution but a dense layer's last, which is copied; 8
    bytes for an index of max pooling. Not counted: the batch, parameters, logits,
    gradients, and the mean and deviation that BN keeps of each channel.

    Raises: ValueError, naming the argument, its value and what is allowed.
    Source: Huang et al. (2017), sections 3 and 4. Chapter: "The model".
    """
    require(isinstance(config, Mapping), "config", config, "arguments of DenseNet")
    for key in config:
        require(key in DEFAULTS, "config key", key, ", ".join(DEFAULTS))
    net = SimpleNamespace(**{**DEFAULTS, **config})
    check(num_channels=net.num_channels, num_classes=net.num_classes)
    check(growth_rate=net.growth_rate, bytes_per_element=bytes_per_element)
    theta, fits = net.compression, isinstance(net.arch, Sequence) and len(net.arch)
    number = isinstance(theta, int | float) and not isinstance(theta, bool)
    require(number and 0 < theta <= 1, "compression", theta, "0 < theta <= 1")
    fits = fits and not isinstance(net.arch, str)
    require(net.bias in (True, False), "bias", net.bias, "True or False")
    require(fits, "arch", net.arch, "the number of layers of each block")

    tape = Tape(input_shape, net.in_channels, bytes_per_element)
    tape.stem(net.stem, net.num_channels, net.bias)
    for i, num_layers in enumerate(net.arch, start=1):
        check(**{f"arch[{i - 1}]": num_layers})
        for j in range(1, num_layers + 1):
            name, before = f"block{i}.layer{j}", tape.shape[0]
            tape.norm(name)
            if net.bottleneck is not None:
                check(bottleneck=net.bottleneck)
                tape.conv(name, net.bottleneck * net.growth_rate, 1, bias=net.bias)
                tape.norm(name)
            tape.conv(name, net.growth_rate, 3, bias=net.bias, kept=False)
            tape.write(name, channels(before, 1, net.growth_rate))  # concatenation
        if i < len(net.arch):
            name, out = f"transition{i}", int(tape.shape[0] * theta)
            tape.norm(name)
            if not pool_first:
                tape.conv(name, out, 1, bias=net.bias)
            tape.pool(name, net.pool, tape.shape[1] // 2, tape.shape[2] // 2)
            if pool_first:
                tape.conv(name, out, 1, bias=net.bias)
            remedy = "no 0, so a larger input_shape or compression"
            require(all(tape.shape), f"output of {name}", tape.shape, remedy)
    tape.norm("head")
    tape.head(net.num_classes)
    return total(merge(tape.rows))
