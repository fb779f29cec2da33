"""The dense MLP: equal to its plain form, its parameters, its loss, its training."""

import numpy as np
import pytest
import torch
from d2l import torch as d2l
from helpers import QUIET, assert_same_training
from torch import nn

from d2l_dense import DenseMLP, Trainer


@pytest.fixture
def data():
    torch.manual_seed(0)
    return d2l.SyntheticRegressionData(torch.arange(5.0), 4.2, 0.01, 49, 20, 16)


class PlainDenseMLP(nn.Module):
    """Two blocks of torch.nn's parts, with batch normalization."""

    def __init__(self, d, k):
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Sequential(nn.Linear(width, k), nn.BatchNorm1d(k), nn.ReLU())
            for width in (d, d + k, d + k, d + 2 * k)
        )
        self.transition = nn.Linear(2 * k, k)
        self.head = nn.Linear(d + 3 * k, 1)

    def forward(self, X):
        made = []
        for i, layer in enumerate(self.layers):
            if i == 2:
                made = [self.transition(torch.cat(made, dim=1))]
            made.append(layer(torch.cat((X, *made), dim=1)))
        return self.head(torch.cat((X, *made), dim=1))


def test_equal_to_the_plain_form_in_training():
    net = DenseMLP(7, 3, (2, 2), norm=True, dropout=0.0)
    assert_same_training(net, PlainDenseMLP(7, 3), (6, 7))


def test_parameters_by_hand():
    # Two layers of 16 on 250 inputs: (250 + 266) * 16 + 2 * 16, and a head of 283.
    assert sum(p.numel() for p in DenseMLP(250).parameters()) == 516 * 16 + 32 + 283
    # Behind a stem of 2 the layers read 2 and 5 numbers, and the head 8.
    net = DenseMLP(7, 3, (2,), stem=2, norm=True)
    assert {"stem.bias", "blocks.0.1.0.weight", "head.bias"} <= {*net.state_dict()}
    held = sum(p.numel() for p in net.parameters())
    assert held == 8 * 2 + (3 * 3 + 6) + (6 * 3 + 6) + 9


def test_a_linear_model_is_a_special_case():
    X, linear = torch.randn(6, 4), nn.Linear(4, 1)
    net, deep = DenseMLP(4, arch=()), DenseMLP(4, 3, (1, 2), stem=None).eval()
    net.head.load_state_dict(linear.state_dict())
    assert torch.equal(net(X), linear(X))
    with torch.no_grad():
        deep.head.weight[:, :4], deep.head.bias[:] = linear.weight, linear.bias
    torch.testing.assert_close(deep(X), linear(X))


def test_the_head_starts_at_zero_and_every_parameter_learns(data):
    net = DenseMLP(5, 4, (2, 1), compression=0.9, stem=4, dropout=0.0)
    assert torch.equal(net(data.X), torch.zeros(69, 1))
    before = [p.clone() for p in net.parameters()]
    Trainer(2, **QUIET).fit(net, data)
    assert not any(map(torch.equal, before, net.parameters()))


def test_the_loss_and_the_penalty():
    net, reported = DenseMLP(1, beta=0.5, l1=0.25), []
    Y = torch.zeros(1, 1)
    losses = [net.loss(Y + error, Y).item() for error in (0.25, 0.5, 2.0, 3.0)]
    assert losses == pytest.approx([0.0625, 0.25, 1.75, 2.75])
    net.plot = lambda key, value, train: reported.append((key, value.item(), train))
    total = net.training_step((Y, Y + 2)).item()
    weights = sum(p.abs().sum().item() for p in net.parameters())
    assert reported == [("loss", pytest.approx(1.75), True)]
    assert total == pytest.approx(1.75 + 0.25 * weights)


def test_both_trainers_train_it(data):
    X, y = data.X[49:], data.y[49:]
    for fit in (Trainer(20, **QUIET).fit, d2l.Trainer(max_epochs=20).fit):
        torch.manual_seed(0)
        net = DenseMLP(5, lr=0.05, l1=0.0, dropout=0.0)
        net.board.display = False
        history = fit(net, data)
        mse = nn.functional.mse_loss(net.eval()(X), y).item()
        assert mse < 0.1 * y.square().mean()
        assert not history or history[-1]["val_mse"] == pytest.approx(mse, rel=1e-4)


def test_arguments_are_numbers_and_reach_the_optimizer():
    net = DenseMLP(np.int64(5), np.int32(4), (2,), np.float32(0.5), weight_decay=0.25)
    kept = [net.num_inputs, net.growth_rate, *net.arch, net.lr]
    assert kept == [5, 4, 2, 0.5] and [*map(type, kept)] == [int, int, int, float]
    (group,) = net.configure_optimizers().param_groups
    assert (group["lr"], group["weight_decay"]) == (0.5, 0.25)


def test_wrong_arguments():
    for name, value in {"num_inputs": 0, "growth_rate": 1.5, "stem": -1}.items():
        with pytest.raises(ValueError, match=f"{name}={value}: expected a whole"):
            DenseMLP(**{"num_inputs": 4, name: value})
    with pytest.raises(ValueError, match="compression=1.5: expected 0 < theta <= 1"):
        DenseMLP(4, compression=1.5)


def test_batches_that_cannot_be_trained_on(data):
    net = DenseMLP(5, norm=True)
    with pytest.raises(ValueError, match=r"targets of shape \[8\], not \[8, 1\]"):
        net.loss(torch.zeros(8, 1), torch.zeros(8))
    with pytest.raises(ValueError, match="batch of one: .*batch_size, or drop_last"):
        Trainer(1, **QUIET).fit(net, data)  # 49 rows
    assert net.eval()(torch.zeros(1, 5)).shape == (1, 1)
    assert DenseMLP(5).train()(torch.zeros(1, 5)).shape == (1, 1)
