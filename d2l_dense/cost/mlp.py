"""The closed form of a dense MLP."""

from collections.abc import Sequence

from d2l_dense.cost.tape import check, require


def mlp_parameters(
    num_inputs: int,
    growth_rate: int = 16,
    arch: Sequence[int] = (2,),
    *,
    compression: float = 0.5,
    stem: int | None = None,
    norm: bool = False,
) -> int:
    """Parameters of a `DenseMLP`, block by block.

    A block of L layers that reads c features has L (ck + f) + k k L (L - 1) / 2
    parameters, f = k for the biases and 2k more with `norm`; the head has one for
    each feature that it sees, and a bias.

    Raises: ValueError, naming the argument, its value and what is allowed.
    Chapter: "A Dense MLP for House Prices".
    """
    check(num_inputs=num_inputs, growth_rate=growth_rate)
    require(0 < compression <= 1, "compression", compression, "0 < theta <= 1")
    total, kept, k = 0, num_inputs, growth_rate
    if stem is not None:
        check(stem=stem)
        total, kept = (num_inputs + 1) * stem, stem
    made = 0  # features, besides those that are kept
    for i, num_layers in enumerate(arch):
        check(**{f"arch[{i}]": num_layers})
        if i:
            narrow = max(1, int(made * compression))
            total, made = total + (made + 1) * narrow, narrow
        fixed = k + 2 * k * norm
        total += num_layers * ((kept + made) * k + fixed)
        total += k * k * num_layers * (num_layers - 1) // 2
        made += num_layers * k
    return total + kept + made + 1
