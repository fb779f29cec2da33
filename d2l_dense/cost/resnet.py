"""The closed form of ResNets, to compare DenseNets with."""

from collections.abc import Sequence

from d2l_dense.cost.tape import Summary, Tape, check, merge, require, total

# Residual blocks of each stage; from 50 layers on a block is a bottleneck.
RESNETS = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
}


def resnet(
    depth: int,
    input_shape: Sequence[int],
    *,
    widths: Sequence[int] = (64, 128, 256, 512),
    num_classes: int = 1000,
    bytes_per_element: int = 4,
) -> Summary:
    """Count torchvision's ResNet of some depth for a batch of shape (N, C, H, W).

    Args:
        depth: one of `RESNETS`.
        widths: channels of each stage's 3x3 convolutions.
        num_classes, bytes_per_element: as in `summary`, whose rules hold here.

    Raises: ValueError, naming the argument, its value and what is allowed.
    Source: He et al. (2016), table 1; as in torchvision, the 3x3 convolution of a
    bottleneck has the stride. Chapter: "Why So Few Parameters?".
    """
    require(depth in RESNETS, "depth", depth, f"one of {', '.join(map(str, RESNETS))}")
    require(len(widths) == 4, "widths", widths, "the channels of four stages")
    check(num_classes=num_classes, bytes_per_element=bytes_per_element)
    fits = isinstance(input_shape, Sequence) and len(input_shape) == 4
    require(fits, "input_shape", input_shape, "(N, C, H, W)")
    tape = Tape(input_shape, input_shape[1], bytes_per_element)
    tape.stem("imagenet", widths[0], bias=False)
    bottleneck = depth >= 50
    for i, (width, blocks) in enumerate(zip(widths, RESNETS[depth], strict=True)):
        check(**{f"widths[{i}]": width})
        for j in range(blocks):
            name, stride = f"stage{i + 1}.block{j + 1}", 2 if i and not j else 1
            out = 4 * width if bottleneck else width
            steps = [(width, 3, stride), (out, 3, 1)]
            if bottleneck:
                steps = [(width, 1, 1), (width, 3, stride), (out, 1, 1)]
            before = tape.shape
            for step in steps:
                tape.conv(name, *step)
                tape.norm(name)
            if (after := tape.shape) != before:  # the shortcut is a convolution too
                tape.shape = before
                tape.conv(name, out, 1, stride)
                tape.norm(name, kept=False)  # added to the block's output at once
                assert tape.shape == after
    tape.head(num_classes)
    return total(merge(tape.rows))
