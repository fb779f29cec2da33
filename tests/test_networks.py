"""experiments/networks.py: ResNet-18, sparse and other DenseNets."""

import pytest
import torch
import torchvision
from helpers import assert_same_training
from torch import nn

from d2l_dense import DenseBlock
from experiments import networks


def test_the_resnet_is_torchvisions():
    ours = networks.ResNet(in_channels=3, num_classes=1000)
    assert_same_training(ours, torchvision.models.resnet18(), (4, 3, 64, 64))


def test_a_layer_in_the_ports_order():
    net = networks.post_activation(num_channels=4, growth_rate=2, arch=(1, 2))
    kinds = [type(module) for module in net.net.block2.layers[1]]
    assert kinds == [nn.Conv2d, nn.BatchNorm2d, nn.ReLU]
    assert net(torch.randn(2, 1, 32, 32)).shape == (2, 10)


def test_pytorchs_initial_weights():
    """Uniform within 1 / sqrt(fan in) (Kaiming, a = sqrt(5)), not He's normal."""
    conv = networks.default_init().net.block1.layers[0][2]
    bound = (conv.in_channels * 9) ** -0.5
    assert conv.weight.abs().max() <= bound
    assert conv.weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.05)


@pytest.mark.parametrize("sources", [1, 2, 3])
def test_a_sparse_block_by_hand(sources):
    torch.manual_seed(0)
    block = networks.SparseBlock(5, 4, 3, sources=sources).eval()
    features = [torch.randn(2, 5, 4, 4)]
    for i, (layer, drawn) in enumerate(zip(block.layers, block.read, strict=True)):
        assert len(set(drawn)) == min(sources, i + 1) and max(drawn) <= i
        features.append(layer(torch.cat([features[j] for j in drawn], dim=1)))
    assert torch.equal(block(features[0]), torch.cat(features, dim=1))


def test_a_sparse_block_that_reads_every_source_is_the_dense_one():
    block = networks.SparseBlock(5, 4, 3, sources=9, bottleneck=2, bias=False)
    plain = DenseBlock(5, 4, 3, bottleneck=2, bias=False)
    assert_same_training(block, plain, (2, 5, 4, 4))


def test_the_drawn_sources_come_from_the_seed():
    def drawn(seed):
        torch.manual_seed(seed)
        blocks = networks.sparse_densenet(2, arch=(6, 6)).net
        return blocks.block1.read + blocks.block2.read

    assert drawn(0) == drawn(0) and drawn(0) != drawn(1)
