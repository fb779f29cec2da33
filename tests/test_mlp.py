"""d2l_dense/mlp.py and its closed form in d2l_dense/cost/mlp.py."""

import pytest
import torch
from d2l import torch as d2l
from helpers import QUIET, assert_same_training
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from d2l_dense import DenseMLP, Trainer, cost, one_cycle


class Numbers(d2l.DataModule):
    """Random numbers, and a target that is not linear in them."""

    def __init__(self, n=60, num_inputs=5, batch_size=16):
        super().__init__()
        self.save_hyperparameters()
        random = torch.Generator().manual_seed(1)
        self.X = torch.randn(n, num_inputs, generator=random)
        self.Y = self.X[:, :1] + self.X[:, 1:2].abs()

    def get_dataloader(self, train):
        return self.get_tensorloader((self.X, self.Y), train)


class PlainDenseMLP(nn.Module):
    """The dense MLP in torch.nn's parts, one block, with batch normalization."""

    def __init__(self, num_inputs, growth_rate, num_layers):
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Sequential(
                nn.Linear(num_inputs + i * growth_rate, growth_rate),
                nn.BatchNorm1d(growth_rate),
                nn.ReLU(),
            )
            for i in range(num_layers)
        )
        self.head = nn.Linear(num_inputs + num_layers * growth_rate, 1)

    def forward(self, X):
        features = [X]
        for layer in self.layers:
            features.append(layer(torch.cat(features, dim=1)))
        return self.head(torch.cat(features, dim=1))


SIZES = st.fixed_dictionaries(
    {
        "growth_rate": st.integers(1, 9),
        "arch": st.lists(st.integers(1, 4), max_size=4),
        "compression": st.floats(0.01, 1),
        "stem": st.none() | st.integers(1, 9),
        "norm": st.booleans(),
    }
)


@given(st.integers(1, 40), SIZES)
def test_the_closed_form_and_the_shape(num_inputs, size):
    net = DenseMLP(num_inputs, **size)
    held = sum(p.numel() for p in net.parameters())
    assert cost.mlp_parameters(num_inputs, **size) == held
    assert net(torch.randn(3, num_inputs)).shape == (3, 1)


def test_the_closed_form_by_hand():
    # Two layers of 16 on 250 inputs: (250 + 266) * 16 + 2 * 16, and a head of 283.
    assert cost.mlp_parameters(250) == 516 * 16 + 32 + 283 == 8571
    assert sum(p.numel() for p in DenseMLP(250).parameters()) == 8571


def test_equal_to_the_plain_form_in_training():
    net = DenseMLP(7, 3, (4,), norm=True, dropout=0.0)
    assert_same_training(net, PlainDenseMLP(7, 3, 4), (6, 7))


def test_every_layer_and_the_head_see_all_that_came_before():
    net = DenseMLP(7, 3, (2, 2), compression=0.5)
    read = [layer[0].in_features for block in net.blocks for layer in block]
    assert read == [7, 10, 10, 13] and net.head.in_features == 16
    assert (net.transitions[0].in_features, net.transitions[0].out_features) == (6, 3)


def test_a_transition_leaves_the_raw_input():
    net = DenseMLP(4, 3, (1, 1, 1))
    seen = []
    net.head.register_forward_hook(lambda _, inputs, __: seen.append(inputs[0]))
    X = torch.randn(5, 4)
    net(X)
    assert torch.equal(seen[0][:, :4], X)


def test_behind_a_stem_nothing_sees_the_raw_input():
    net = DenseMLP(7, 3, (2,), stem=2)
    assert [layer[0].in_features for layer in net.blocks[0]] == [2, 5]
    assert net.head.in_features == 8


def test_a_linear_model_is_a_special_case():
    X = torch.randn(6, 4)
    net, linear = DenseMLP(4, arch=()), nn.Linear(4, 1)
    net.head.load_state_dict(linear.state_dict())
    assert torch.equal(net(X), linear(X))
    deep = DenseMLP(4, 3, (2,)).eval()
    with torch.no_grad():
        deep.head.weight[:, :4], deep.head.bias[:] = linear.weight, linear.bias
    torch.testing.assert_close(deep(X), linear(X))


def test_the_head_starts_at_zero_and_every_parameter_learns():
    torch.manual_seed(0)
    data, net = Numbers(), DenseMLP(5, 4, (2, 1), compression=0.9, stem=4, norm=True)
    assert torch.equal(net(data.X), torch.zeros(60, 1))
    before = {name: p.clone() for name, p in net.named_parameters()}
    Trainer(2, **QUIET).fit(net, data)
    for name, parameter in net.named_parameters():
        assert not torch.equal(parameter, before[name]), name


def test_errors_beyond_beta_count_linearly():
    net = DenseMLP(1, beta=0.5)
    Y = torch.zeros(1, 1)
    losses = [net.loss(Y + error, Y).item() for error in (0.25, 0.5, 2.0, 3.0)]
    assert losses == pytest.approx([0.0625, 0.25, 1.75, 2.75])


def test_the_penalty_is_trained_on_and_not_reported():
    data, net = Numbers(), DenseMLP(5, l1=0.25)
    reported = []
    net.plot = lambda key, value, train: reported.append((key, value.item(), train))
    total = net.training_step((data.X, data.Y)).item()
    weights = sum(p.abs().sum().item() for p in net.parameters())
    ((key, loss, train),) = reported
    assert (key, train) == ("loss", True)
    assert total == pytest.approx(loss + 0.25 * weights)


def test_the_optimizer_has_what_was_given():
    group = DenseMLP(5, lr=0.02, weight_decay=0.3).configure_optimizers()
    group = group.param_groups[0]
    assert (group["lr"], group["weight_decay"]) == (0.02, 0.3)


def test_our_trainer_trains_it():
    torch.manual_seed(0)
    data, net = Numbers(), DenseMLP(5, lr=0.02, l1=0.0, dropout=0.0)
    history = Trainer(40, schedule=one_cycle, **QUIET).fit(net, data)
    assert history[-1]["val_mse"] < 0.1 * history[0]["val_mse"]
    with torch.no_grad():
        mse = nn.functional.mse_loss(net.eval()(data.X), data.Y).item()
    assert history[-1]["val_mse"] == pytest.approx(mse, rel=1e-4)


def test_d2ls_trainer_trains_it():
    torch.manual_seed(0)
    data, net = Numbers(), DenseMLP(5, lr=0.02, l1=0.0)
    net.board.display = False
    d2l.Trainer(max_epochs=20).fit(net, data)
    error = nn.functional.mse_loss(net.eval()(data.X), data.Y)
    assert error < 0.5 * data.Y.square().mean()


@pytest.mark.parametrize(
    "options, words",
    [
        ({"num_inputs": 0}, "num_inputs=0: expected a whole number, 1 or more"),
        ({"growth_rate": 1.5}, "growth_rate=1.5: expected a whole number"),
        ({"arch": 2}, "arch=2: expected the number of layers of each dense block"),
        ({"arch": (2, 0)}, r"arch=\(2, 0\): expected the number of layers"),
        ({"lr": 0}, "lr=0: expected a learning rate above 0"),
        ({"compression": 1.5}, "compression=1.5: expected 0 < theta <= 1"),
        ({"stem": -1}, "stem=-1: expected a whole number, 1 or more"),
        ({"dropout": 1}, "dropout=1: expected 0 <= dropout < 1"),
        ({"weight_decay": -1}, "weight_decay=-1: expected 0 or more"),
        ({"l1": float("nan")}, "l1=nan: expected 0 or more"),
        ({"beta": 0}, "beta=0: expected a number above 0"),
    ],
)
def test_wrong_arguments(options, words):
    with pytest.raises(ValueError, match=words):
        DenseMLP(**{"num_inputs": 4} | options)


@pytest.mark.parametrize(
    "options, words",
    [
        ({"num_inputs": 0}, "num_inputs=0: expected a whole number, 1 or more"),
        ({"arch": (2, 0)}, r"arch\[1\]=0: expected a whole number, 1 or more"),
        ({"compression": 0}, "compression=0: expected 0 < theta <= 1"),
        ({"stem": 0}, "stem=0: expected a whole number, 1 or more"),
    ],
)
def test_wrong_arguments_of_the_closed_form(options, words):
    with pytest.raises(ValueError, match=words):
        cost.mlp_parameters(**{"num_inputs": 4} | options)


def test_targets_of_another_shape_are_refused():
    net = DenseMLP(5)
    with pytest.raises(ValueError, match=r"targets of shape \(8,\): expected \(8, 1\)"):
        net.training_step((torch.zeros(8, 5), torch.zeros(8)))
