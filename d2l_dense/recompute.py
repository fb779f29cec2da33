"""Compute again in the backward pass what was not kept (checkpointing)."""

from contextlib import nullcontext

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


@torch.compiler.disable  # it cannot trace the context below
def recompute(layers: nn.Sequential, *features: Tensor) -> Tensor:
    """Apply layers to the concatenated features, and keep only the features.

    The backward pass computes the layers once more; batch normalisation's running
    statistics are updated only the first time. (PyTorch's checkpoint alone
    updates them twice, issue 96136.)

    Shape: each (N, C_i, H, W), together (N, C, H, W) -> that of layers(X)

    Source: Chen et al. (2016). Chapter: "How would you change the framework?".
    """

    def run(*features: Tensor) -> Tensor:
        X = features[0] if len(features) == 1 else torch.cat(features, dim=1)
        if isinstance(layers, Lean):  # whose own forward leads here
            return nn.Sequential.forward(layers, X)
        return layers(X)

    return checkpoint(
        run,
        *features,
        use_reentrant=False,
        context_fn=lambda: (nullcontext(), _Still(layers)),
    )


class _Still:
    """A context in which batch normalisation leaves its running statistics alone.

    It can be entered again, as for a graph that is kept.
    """

    def __init__(self, layers: nn.Module) -> None:
        modules = layers.modules()
        self.norms = [m for m in modules if getattr(m, "track_running_stats", False)]

    def __enter__(self) -> None:
        self.before = [(norm.momentum, norm.num_batches_tracked) for norm in self.norms]
        for norm in self.norms:
            norm.momentum = 0.0
            norm.num_batches_tracked = norm.num_batches_tracked.clone()

    def __exit__(self, *_: object) -> None:
        for norm, (momentum, count) in zip(self.norms, self.before, strict=True):
            norm.momentum, norm.num_batches_tracked = momentum, count


class Lean(nn.Sequential):
    """A `Sequential` with a memory strategy: "plain", "checkpoint" or "shared".

    What it does if that is "shared" is the subclass's own: `shared`.
    """

    memory = "plain"

    def forward(self, X: Tensor) -> Tensor:
        if self.memory == "shared":
            return self.shared(X)
        return recompute(self, X) if self.memory == "checkpoint" else super().forward(X)
