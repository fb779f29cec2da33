"""The stages of a network in a row, where a block and its transition may be one."""

from torch import Tensor, nn

from d2l_dense.blocks import DenseBlock, TransitionBlock
from d2l_dense.shared_memory import read
from d2l_dense.take_apart import hooked, of_layer, of_transition


class Stages(nn.Sequential):
    """Stages, one after the other.

    With memory="shared", a transition reads the block before it as one more layer
    would: from the buffer, and with the statistics that are known already.
    """

    def forward(self, X: Tensor) -> Tensor:
        stages = list(self)
        while stages:
            stage, *stages = stages
            if stages and _reads_its_buffer(stage, stages[0]):
                layers = [of_layer(layer) for layer in stage.layers]
                X = read(X, layers, of_transition(stages.pop(0)))
            else:
                X = stage(X)
        return X


def _reads_its_buffer(block: nn.Module, transition: nn.Module) -> bool:
    """Whether both are what they seem, and nobody looks at what the block returns."""
    pair = block, transition
    return (
        [type(stage) for stage in pair] == [DenseBlock, TransitionBlock]
        and all(stage.memory == "shared" for stage in pair)
        and not any(map(hooked, pair))
    )
