"""What several processes under torchrun share: examples and buffers."""

from collections.abc import Iterator

import torch
from lightning_fabric import Fabric
from torch import nn
from torch.utils.data import DataLoader, Sampler, Subset


class Part(Sampler[int]):
    """Every world-th example of an order that all processes draw alike.

    So the batches of all processes together are those of one process. The order
    starts again until every process has as many examples.
    """

    def __init__(self, order: Sampler[int], rank: int, world: int) -> None:
        self.order, self.rank, self.world = order, rank, world

    def __iter__(self) -> Iterator[int]:
        order = list(self.order)
        order += order[: -len(order) % self.world]
        return iter(order[self.rank :: self.world])

    def __len__(self) -> int:
        return -(-len(self.order) // self.world)


def split(loader: DataLoader, fabric: Fabric) -> DataLoader:
    """Return this process's part of a loader, for training.

    Fabric's own sampler would shuffle by the number of times that it was asked:
    alike for all seeds, and from the start again after a resume.
    """
    if fabric.world_size > 1:
        loader = DataLoader(
            loader.dataset,
            loader.batch_size,
            sampler=Part(loader.sampler, fabric.global_rank, fabric.world_size),
            num_workers=loader.num_workers,
            collate_fn=loader.collate_fn,
            drop_last=loader.drop_last,
        )
    return fabric.setup_dataloaders(loader, use_distributed_sampler=False)


def agree(model: nn.Module, fabric: Fabric) -> None:
    """Give every process the buffers of the first one.

    In training, each keeps batch normalisation's statistics of its own batches.
    """
    if fabric.world_size > 1:
        for buffer in model.buffers():
            torch.distributed.broadcast(buffer, src=0)


def share(loader: DataLoader, fabric: Fabric) -> DataLoader:
    """Return this process's part of a loader, for an evaluation.

    A DistributedSampler would repeat examples until every process has as many;
    here each example is seen exactly once, in some process. Where there are
    fewer than processes, all see all, and the average is the same.
    """
    rank, world = fabric.global_rank, fabric.world_size
    if world == 1 or len(loader.dataset) < world:
        return loader
    part = Subset(loader.dataset, range(rank, len(loader.dataset), world))
    return DataLoader(part, loader.batch_size, collate_fn=loader.collate_fn)
