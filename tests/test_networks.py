"""experiments/networks.py: the Julia port, ResNet-18, sparse and other DenseNets."""

import pytest
import torch
import torchvision
from helpers import assert_same_training
from torch import nn

from d2l_dense import DenseBlock
from experiments import networks


class PlainBlock(nn.Module):
    """The port's dense block in torch.nn's parts: convolution, BN, ReLU."""

    def __init__(self, in_channels, num_layers, growth_rate):
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(in_channels + i * growth_rate, growth_rate, 3, padding=1),
                nn.BatchNorm2d(growth_rate),
                nn.ReLU(),
            )
            for i in range(num_layers)
        )

    def forward(self, X):
        for layer in self.layers:
            X = torch.cat((X, layer(X)), dim=1)
        return X


def test_the_port_has_its_published_parameters():
    def count(*arguments):
        with torch.device("meta"):
            net = networks.PortedDenseNet(*arguments)
        return sum(p.numel() for p in net.parameters())

    assert count() == 754_082
    assert count((6, 12, 64, 48)) == 53_786_826  # its "264"


def test_the_ports_transition_makes_5x5_of_8x8():
    X = torch.randn(4, 3, 8, 8)
    Y = networks.ported_block(3, 2, 10)(X)
    assert Y.shape == (4, 23, 8, 8)
    assert networks.ported_transition(23, 10)(Y).shape == (4, 10, 5, 5)


def test_the_port_equals_the_plain_form_in_training():
    plain = nn.Sequential(
        nn.Conv2d(1, 64, kernel_size=7, stride=2, padding=3),
        nn.BatchNorm2d(64),
        nn.ReLU(),
        nn.MaxPool2d(kernel_size=3, stride=2, padding=1),
        PlainBlock(64, 1, 32),
        nn.BatchNorm2d(96),
        nn.ReLU(),
        nn.Conv2d(96, 48, kernel_size=1),
        nn.AvgPool2d(kernel_size=2, stride=2, padding=1),
        PlainBlock(48, 2, 32),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(112, 10),
    )
    assert_same_training(networks.PortedDenseNet((1, 2)), plain, (3, 1, 32, 32))


def test_the_resnet_is_torchvisions():
    ours = networks.ResNet(in_channels=3, num_classes=1000)
    assert_same_training(ours, torchvision.models.resnet18(), (4, 3, 64, 64))


def test_a_layer_in_the_ports_order():
    net = networks.PostActivation(4, 2, (1, 2))
    kinds = [type(module) for module in net.net.block2.layers[1]]
    assert kinds == [nn.Conv2d, nn.BatchNorm2d, nn.ReLU]
    assert net(torch.randn(2, 1, 32, 32)).shape == (2, 10)


def test_pytorchs_initial_weights():
    """Uniform within 1 / sqrt(fan in) (Kaiming, a = sqrt(5)), not He's normal."""
    conv = networks.DefaultInit().net.block1.layers[0][2]
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
    assert block.out_channels == 17
    assert torch.equal(block(features[0]), torch.cat(features, dim=1))


def test_a_sparse_block_that_reads_every_source_is_the_dense_one():
    block = networks.SparseBlock(5, 4, 3, sources=9, bottleneck=2, bias=False)
    plain = DenseBlock(5, 4, 3, bottleneck=2, bias=False)
    assert_same_training(block, plain, (2, 5, 4, 4))


def test_the_drawn_sources_come_from_the_seed():
    def drawn(seed):
        torch.manual_seed(seed)
        blocks = networks.SparseDenseNet(8, 4, (6, 6), sources=2).net
        return blocks.block1.read + blocks.block2.read

    assert drawn(0) == drawn(0)
    assert drawn(0) != drawn(1)
