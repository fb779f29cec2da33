"""d2l_dense/memory.py: accounted and measured peaks, and that they agree."""

import re

import pytest
import torch
from d2l import torch as d2l
from torch import nn

from d2l_dense import VARIANTS, DenseNet, Trainer, cost, memory
from d2l_dense.out_of_memory import explained

SMALL = dict(num_channels=16, growth_rate=8, arch=(3, 4), bottleneck=2)


def batch(*shape, device="cpu"):
    torch.manual_seed(0)
    X = torch.randn(shape, device=device)
    return X, torch.zeros(shape[0], dtype=torch.long, device=device)


def agree(net, shape, **options):
    """Assert that the measured peak is within 10 % of the accounted one.

    Channels last, as the trainer lays images out: channels first, oneDNN copies what
    a convolution reads into a layout of its own, which no accounting sees.
    """
    accounted = memory.training_peak(net, shape, **options)["total"]
    X, y = batch(*shape)
    if X.dim() == 4:
        net, X = (t.to(memory_format=torch.channels_last) for t in (net, X))
    measured = memory.measure(net, (X, y), **options)["total"]
    assert abs(measured / accounted - 1) < 0.1


@pytest.fixture
def one_thread():
    """The scratch memory of kernels, which no accounting sees, grows with the threads.

    It counts beside tensors as small as these.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("strategy", cost.MEMORY)
def test_the_accounting_is_what_is_allocated(strategy, one_thread):
    agree(DenseNet(**SMALL, memory=strategy, momentum=0.9), (8, 1, 64, 64))


@pytest.mark.parametrize("strategy", cost.MEMORY)
@pytest.mark.parametrize("frozen", [["stem"], ["stem", "block1", "transition1"]])
def test_what_is_frozen_has_no_gradient(strategy, frozen, one_thread):
    net, shape = DenseNet(**SMALL, memory=strategy, momentum=0.9), (8, 1, 64, 64)
    for stage in frozen:
        net.net.get_submodule(stage).requires_grad_(False)
    found = memory.training_peak(net, shape)
    assert found["parameters"] == sum(p.nbytes for p in net.parameters())
    trained = [p for p in net.parameters() if p.requires_grad]
    assert found["optimizer"] == sum(p.nbytes for p in trained)
    agree(net, shape)


@pytest.mark.slow
@pytest.mark.parametrize("strategy", cost.MEMORY)
@pytest.mark.parametrize(
    ("config", "shape"),
    [
        ({}, (32, 1, 96, 96)),
        (VARIANTS["121"], (4, 3, 224, 224)),
        (VARIANTS["BC-100-12"], (16, 3, 32, 32)),
    ],
    ids=["chapter", "121", "BC-100-12"],
)
def test_the_accounting_of_whole_networks(config, shape, strategy):
    agree(DenseNet(**config, memory=strategy, momentum=0.9), shape)


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("strategy", cost.MEMORY)
def test_the_accounting_on_cuda(strategy):
    net, shape = DenseNet(memory=strategy, momentum=0.9).cuda(), (32, 1, 96, 96)
    accounted = memory.training_peak(net, shape)["total"]
    measured = memory.measure(net, batch(*shape, device="cuda"))
    assert abs(measured["total"] / accounted - 1) < 0.1
    assert measured["reserved"] >= measured["total"]


def test_a_linear_net_by_hand():
    """y = XW: parameters, a momentum for each, the input, the gradient."""
    net = nn.Linear(1000, 500, bias=False)

    def momentum(parameters):
        return torch.optim.SGD(parameters, lr=0.1, momentum=0.9)

    found = memory.training_peak(net, (4, 1000), momentum)
    weights = 4 * 1000 * 500
    assert found["parameters"] == found["optimizer"] == weights
    assert found["temporaries"] >= weights  # the gradient, until it is handed over
    assert found["inputs"] == 4 * 4 * 1000 + 4 * 8
    assert found["total"] == sum(v for k, v in found.items() if k != "total")
    agree(net, (4, 1000), optimizer=momentum)


def test_categories_by_the_closed_form():
    net = DenseNet(**SMALL, momentum=0.9)
    found = memory.training_peak(net, (8, 1, 64, 64))
    size = sum(p.numel() for p in net.parameters()) * 4
    assert found["parameters"] == found["optimizer"] == size
    assert found["buffers"] == sum(b.nbytes for b in net.buffers())


def test_it_changes_nothing():
    net = DenseNet(**SMALL, momentum=0.9)
    before = {key: value.clone() for key, value in net.state_dict().items()}
    memory.training_peak(net, (2, 1, 32, 32))
    memory.measure(net, batch(2, 1, 32, 32))
    for key, value in net.state_dict().items():
        assert torch.equal(value, before[key])
    assert all(p.grad is None for p in net.parameters())


def test_it_allocates_nothing():
    """A network on the meta device, at a size that no machine could train."""
    with torch.device("meta"):
        net = DenseNet(**SMALL)
    found = memory.training_peak(net, (1_000_000, 1, 224, 224))
    assert found["total"] > 2**40


def test_mixed_precision_needs_less():
    net, shape = DenseNet(**SMALL), (8, 1, 64, 64)
    single = memory.training_peak(net, shape)
    half = memory.training_peak(net, shape, autocast=torch.bfloat16)
    assert half["activations"] < 0.7 * single["activations"]
    assert half["parameters"] == single["parameters"]


def test_any_module_and_optimizer():
    net = nn.Sequential(nn.Flatten(), nn.Linear(12, 3))
    found = memory.training_peak(net, (2, 3, 4), torch.optim.Adam)
    assert found["optimizer"] >= 2 * found["parameters"]
    lazy = d2l.SoftmaxRegression(10, 0.1)
    with pytest.raises(ValueError, match="lazy.*call the net once"):
        memory.training_peak(lazy, (4, 1, 28, 28))
    lazy(torch.zeros(1, 1, 28, 28))
    agree(lazy, (4, 1, 28, 28))


@pytest.mark.parametrize("shape", [(), (0, 1, 32, 32), (2, 1, 32.0, 32), "8"])
def test_a_shape_that_is_none(shape):
    with pytest.raises(ValueError, match="input_shape=.*expected such as"):
        memory.training_peak(DenseNet(**SMALL), shape)


def test_another_device():
    X = torch.empty(2, 1, 8, 8, device="meta")
    with pytest.raises(ValueError, match="net and batch on meta: expected cpu or cud"):
        memory.measure(DenseNet(**SMALL), (X, X))
    with pytest.raises(ValueError, match=r"batch of type Tensor: expected \(X, y\)"):
        memory.measure(DenseNet(**SMALL), X)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_a_step_has_gradients_wherever_it_is_asked_for(mode):
    net, shape = DenseNet(**SMALL, momentum=0.9), (2, 1, 32, 32)
    asked = [memory.training_peak(net, shape), memory.measure(net, batch(*shape))]
    with mode():
        again = [memory.training_peak(net, shape), memory.measure(net, batch(*shape))]
        assert torch.is_inference_mode_enabled() == (mode is torch.inference_mode)
        assert not torch.is_grad_enabled()
    assert again == asked


def test_an_optimizer_in_place_of_its_maker():
    net = DenseNet(**SMALL)
    words = "optimizer is a SGD: expected a function that makes one of parameters"
    for ask in (memory.training_peak, memory.measure):
        X = (2, 1, 32, 32) if ask is memory.training_peak else batch(2, 1, 32, 32)
        with pytest.raises(TypeError, match=words):
            ask(net, X, net.configure_optimizers())


# The closed form


@pytest.mark.parametrize("strategy", cost.MEMORY)
@pytest.mark.parametrize(
    ("config", "shape"),
    [
        (dict(arch=(3, 2)), (8, 1, 64, 64)),
        (dict(arch=(2, 3), bottleneck=4, bias=False), (4, 1, 64, 48)),
        (dict(arch=(3,), stem="cifar", growth_rate=8), (8, 1, 24, 24)),
        (dict(arch=(2, 4), pool="max", compression=1.0), (1, 1, 48, 48)),
        pytest.param({}, (128, 1, 96, 96), marks=pytest.mark.slow),
        pytest.param(VARIANTS["121"], (16, 3, 224, 224), marks=pytest.mark.slow),
        pytest.param(VARIANTS["BC-100-12"], (64, 3, 32, 32), marks=pytest.mark.slow),
    ],
)
def test_closed_form_of_the_peak(config, shape, strategy):
    """Within 5 % of the accounting, at once."""
    config = {**config, "memory": strategy}
    with torch.device("meta"):
        net = DenseNet(**config, momentum=0.9)
    accounted = memory.training_peak(net, shape)
    found = cost.peak(config, shape)
    assert found.parameters == accounted["parameters"]
    assert found.optimizer == accounted["optimizer"]
    assert abs(found.total / accounted["total"] - 1) < 0.05


@pytest.mark.parametrize(("pool", "stage"), [("avg", "stem"), ("max", "block1")])
def test_closed_form_in_double_precision(pool, stage):
    """Indices of a maximum have eight bytes, whatever the activations have."""
    config = dict(arch=(1, 1), memory="shared", pool=pool)
    with torch.device("meta"):
        net = DenseNet(**config).double()
    accounted = memory.training_peak(net, (8, 1, 96, 96))
    accounted = accounted["activations"] + accounted["temporaries"]
    found = cost.peak(config, (8, 1, 96, 96), bytes_per_element=8)
    assert found.stage == stage
    assert abs(found.activations / accounted - 1) < 0.05


def test_the_exercise_in_closed_form():
    """Activations grow with the area, (224 / 96)^2, and nothing else grows."""
    small, large = (cost.summary({}, (128, 1, side, side)) for side in (96, 224))
    ratio = large.activation_bytes / small.activation_bytes
    assert ratio == pytest.approx((224 / 96) ** 2, rel=0.01)
    totals = [cost.peak({}, (128, 1, side, side)).total for side in (96, 224)]
    assert totals[1] / totals[0] < ratio


@pytest.mark.parametrize("name", ["121", "BC-100-12"])
def test_shared_needs_a_quarter(name):
    shape = (64, 3, 32, 32) if name == "BC-100-12" else (16, 3, 224, 224)
    plain, shared = (
        cost.peak({**VARIANTS[name], "memory": memory}, shape).total
        for memory in ("plain", "shared")
    )
    assert shared <= 0.25 * plain


def test_shared_needs_a_third_of_the_chapters_network():
    shape = (128, 1, 96, 96)
    plain, shared = (cost.peak({"memory": m}, shape).total for m in cost.MEMORY[::2])
    assert shared <= 0.35 * plain


@pytest.mark.parametrize("n", [0, -3, 2.5, True])
def test_a_batch_of_no_size(n):
    with pytest.raises(ValueError, match=f"N={n!r}: expected a whole number, 1 or mor"):
        cost.peak({}, (n, 1, 96, 96))


def test_a_strategy_that_is_none():
    with pytest.raises(ValueError, match="memory='lean': expected plain, checkpoint"):
        cost.peak({"memory": "lean"}, (1, 1, 96, 96))


@pytest.mark.parametrize("memory", cost.MEMORY)
def test_the_largest_batch(memory):
    config, budget = {**SMALL, "memory": memory}, 10**8
    n = cost.largest_batch(config, (1, 64, 64), budget)
    assert cost.peak(config, (n, 1, 64, 64)).total <= budget
    assert cost.peak(config, (n + 1, 1, 64, 64)).total > budget
    assert cost.largest_batch(config, (1, 64, 64), 10**5) == 0


# Out of memory


def test_what_would_fit_is_said():
    """A step of a million gigabytes; afterwards the process goes on."""
    net = DenseNet(**SMALL, memory="checkpoint")
    X = torch.zeros(1).expand(1_000_000, 1, 8192, 8192)
    words = (
        r"out of memory with a batch of shape \(1000000, 1, 8192, 8192\) and "
        r"memory='checkpoint'.*memory='shared' \d+\.\d GB \(at most \d+ images fit\)"
    )
    with pytest.raises(MemoryError, match=words):
        net(X)
    assert net(torch.zeros(2, 1, 32, 32)).shape == (2, 10)


def test_what_would_fit_in_half_precision():
    """Half the bytes of the activations: nearly twice the images."""
    net, X, fit = DenseNet(**SMALL), torch.zeros(1, 1, 64, 64), []
    for mixed in (False, True):
        with pytest.raises(MemoryError) as found, explained(net, X, mixed):
            raise torch.OutOfMemoryError("CUDA out of memory.")
        fit.append(int(re.search(r"at most (\d+) images", str(found.value))[1]))
    assert 1.8 < fit[1] / fit[0] <= 2


def test_training_that_does_not_fit(monkeypatch):
    def backward(*_):
        raise torch.OutOfMemoryError("CUDA out of memory.")

    data = d2l.SyntheticRegressionData(w=torch.ones(3), b=0.0)
    trainer = Trainer(max_epochs=1, accelerator="cpu", progress=False)
    monkeypatch.setattr(trainer.fabric, "backward", backward)
    with pytest.raises(MemoryError, match=r"\(32, 3\): take a smaller batch"):
        trainer.fit(d2l.LinearRegression(lr=0.01), data)


def test_other_errors_are_left_alone():
    with pytest.raises(RuntimeError, match="another"), explained(nn.Flatten(), None):
        raise RuntimeError("another")


# Images that do not fit the network


@pytest.mark.parametrize(
    ("X", "words"),
    [
        (torch.zeros(2, 3, 32, 32), r"\(2, 3, 32, 32\): expected \(N, 1, H, W\)"),
        (torch.zeros(32, 32), r"\(32, 32\): expected \(N, 1, H, W\)"),
        (torch.zeros(0, 1, 32, 32), "N at least 1"),
        (torch.zeros(2, 1, 32, 32, dtype=torch.uint8), "uint8: expected floats"),
        (
            torch.zeros(2, 1, 32, 32).double(),
            "float64: expected torch.float32, the",
        ),
        (torch.zeros(2, 1, 32, 32).numpy(), "in a ndarray: expected a torch.Tensor"),
        (torch.zeros(2, 1, 28, 28), "28x28 pixels: this many blocks need .* 29x29"),
        (torch.zeros(1, 1, 32, 32), "one image, of one pixel .* two or more"),
    ],
)
def test_images_that_are_refused(X, words):
    with pytest.raises(ValueError, match=words):
        DenseNet()(X)


@pytest.mark.parametrize(("stem", "side"), [("imagenet", 5), ("cifar", 2)])
def test_the_smallest_images(stem, side):
    net = DenseNet(4, 2, (1, 1), stem=stem)
    assert net(torch.zeros(2, 1, side, side)).shape == (2, 10)
    with pytest.raises(ValueError, match=f"at least {side}x{side}"):
        net(torch.zeros(2, 1, side - 1, side))
    assert net.eval()(torch.zeros(1, 1, side, side)).shape == (1, 10)
