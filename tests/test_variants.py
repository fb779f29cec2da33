"""d2l_dense/variants.py and torchvision's weights in densenet.py."""

import re

import pytest
import torch
import torchvision

from d2l_dense import VARIANTS, DenseNet, cost

# The paper's Table 1 and torchvision's page; 161 from the authors' page. 264, 40-12,
# 100-12 and the large BC nets are not in torchvision: those are closed forms, which
# agree with the millions that are quoted (1.02, 6.98, 15.3, 25.6; 0.77 for BC-100-12).
PARAMETERS = {
    "121": 7_978_856,
    "169": 14_149_480,
    "201": 20_013_928,
    "264": 33_337_704,
    "161": 28_681_000,
    "40-12": 1_019_722,
    "100-12": 6_979_642,
    "BC-100-12": 769_162,
    "BC-250-24": 15_324_406,
    "BC-190-40": 25_624_430,
}
IN_TORCHVISION = [
    "121",
    *(pytest.param(name, marks=pytest.mark.slow) for name in ("169", "201", "161")),
]


def theirs(name):
    torch.manual_seed(0)
    return getattr(torchvision.models, f"densenet{name}")(weights=None).double()


@pytest.mark.parametrize("name", VARIANTS)
def test_parameters_are_the_published_ones(name):
    with torch.device("meta"):
        net = DenseNet.variant(name)
    side = 32 if VARIANTS[name].get("stem") == "cifar" else 224
    count = sum(p.numel() for p in net.parameters())
    assert count == PARAMETERS[name]
    assert cost.summary(VARIANTS[name], (1, 3, side, side)).parameters == count


@pytest.mark.parametrize("name", ["121", "BC-100-12"])
def test_overrides(name):
    with torch.device("meta"):
        net = DenseNet.variant(name, in_channels=1, num_classes=7)
        assert net(torch.empty(2, 1, 64, 64)).shape == (2, 7)


def test_an_unknown_name_lists_those_that_exist():
    with pytest.raises(ValueError, match="'122': expected one of 121, 169, 201, 264"):
        DenseNet.variant("122")


@pytest.mark.parametrize("name", IN_TORCHVISION)
def test_equals_torchvisions(name):
    """Logits in eval and train mode; weights and buffers after three steps."""
    plain, net = theirs(name), DenseNet.variant(name).double()
    net.load_torchvision(plain.state_dict())
    X = torch.rand(4, 3, 64, 64, dtype=torch.float64)
    y = torch.tensor([1, 10, 100, 999])
    with torch.no_grad():
        expected = plain.eval()(X)
        torch.testing.assert_close(net.eval()(X), expected, rtol=1e-10, atol=1e-12)
    optimizers = [
        torch.optim.SGD(m.train().parameters(), lr=0.01) for m in (net, plain)
    ]
    for _ in range(3):
        for model, optimizer in zip((net, plain), optimizers, strict=True):
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(model(X), y).backward()
        # Both list their parameters in the order of the layers.
        pairs = zip(net.parameters(), plain.named_parameters(), strict=True)
        largest = max(p.grad.abs().max() for p in plain.parameters())
        for ours, (key, parameter) in pairs:
            assert (ours.grad - parameter.grad).abs().max() <= 1e-10 * largest, key
        for optimizer in optimizers:
            optimizer.step()
    for key, value in plain.state_dict().items():
        torch.testing.assert_close(net.to_torchvision()[key], value)


def test_the_way_back():
    plain, net = theirs("121"), DenseNet.variant("121").double()
    net.load_torchvision(plain.state_dict())
    back = net.to_torchvision()
    assert list(back) == list(plain.state_dict())
    for key, value in plain.state_dict().items():
        assert torch.equal(back[key], value), key
    plain.load_state_dict(back)


@pytest.mark.parametrize(
    "change", [{"bottleneck": None}, {"stem": "cifar"}, {"bias": True}]
)
def test_no_way_back_where_torchvision_has_no_such_network(change):
    form = {"bottleneck": 4, "stem": "imagenet", "bias": False}
    net = DenseNet(4, 2, (1, 1), in_channels=3, **form | change)
    ((key, value),) = change.items()
    words = f"{key}={value!r}.*: expected a bottleneck, stem='imagenet' and bias=False"
    with pytest.raises(ValueError, match=words):
        net.to_torchvision()


def test_weights_that_do_not_fit_are_refused_by_name():
    net = DenseNet.variant("121", num_classes=10)
    state = torchvision.models.densenet121(weights=None).state_dict()
    before = {key: value.clone() for key, value in net.state_dict().items()}
    words = r"classifier.weight is \(1000, 1024\), expected \(10, 1024\)"
    with pytest.raises(ValueError, match=words):
        net.load_torchvision(state)
    del state["features.conv0.weight"]
    with pytest.raises(ValueError, match="conv0.weight is nothing, expected"):
        net.load_torchvision(state)
    own = net.to_torchvision()
    with pytest.raises(ValueError, match=r"extra is \(2,\), expected nothing"):
        net.load_torchvision(own | {"extra": torch.zeros(2)})
    for key, value in net.state_dict().items():
        assert torch.equal(before[key], value), key


def test_the_names_of_torchvisions_published_files():
    """Their "norm1" is "norm.1", and they count no batches."""
    plain, net = theirs("121"), DenseNet.variant("121").double()
    old = {
        re.sub(r"(denselayer\d+\.(?:norm|conv))([12])", r"\1.\2", key): value
        for key, value in plain.state_dict().items()
        if not key.endswith("num_batches_tracked")
    }
    assert "features.denseblock1.denselayer1.norm.1.weight" in old
    net.load_torchvision(old)
    assert torch.equal(net.net.head[4].weight, plain.classifier.weight)


@pytest.mark.parametrize(
    "change, words",
    [
        ({"epoch": 3}, "epoch is int without values, expected nothing"),
        ({"classifier.bias": [0.0]}, "classifier.bias is list without values"),
    ],
)
def test_what_is_no_tensor_is_refused_before_anything_is_loaded(change, words):
    net, plain = DenseNet.variant("121"), torchvision.models.densenet121(weights=None)
    before = net.net.stem[0].weight.clone()
    with pytest.raises(ValueError, match=words):
        net.load_torchvision(plain.state_dict() | change)
    assert torch.equal(net.net.stem[0].weight, before)
