"""The chapters' "Try it": each check takes the reader's function and prints a line.

The line says that nothing is done yet; or what was found, what was expected and the
probable mistake; or that all is right. The chapter says what the function has to do.
"""

from d2l_dense.try_it.blocks import (
    check_block,
    check_counterexample,
    check_max_gradient,
    check_recomputed,
    check_transition,
)
from d2l_dense.try_it.counts import (
    check_depth,
    check_features,
    check_kept_bytes,
    check_log_rmse,
    check_mlp,
    check_quotient,
    check_weights,
)

__all__ = [
    "check_block",
    "check_counterexample",
    "check_depth",
    "check_features",
    "check_kept_bytes",
    "check_log_rmse",
    "check_max_gradient",
    "check_mlp",
    "check_quotient",
    "check_recomputed",
    "check_transition",
    "check_weights",
]
