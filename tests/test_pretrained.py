"""d2l_dense/trained.py, and the experiments that open the trained network."""

import json
import sys

import pytest
import safetensors.torch
import torch
from helpers import assert_equal_states
from torch import nn

from d2l_dense import (
    DenseNet,
    FashionMNIST,
    Trainer,
    records,
    trained,
    trained_densenet,
)
from experiments import reuse, weights
from experiments.training import Run


@pytest.fixture(scope="module")
def network():
    return trained_densenet()


def test_the_weights_reproduce_the_accuracy_of_their_record(network):
    net, record = network
    options = record["configuration"]["data"] | {"flip": False, "batch_size": 500}
    loader = FashionMNIST(**options).test_dataloader()
    trainer = Trainer(accelerator="cpu", precision="32-true", progress=False)
    found = trainer.evaluate(net, loader)["accuracy"]
    assert found == pytest.approx(record["test_accuracy"])


def test_it_is_small_and_the_contracts_network(network):
    net, _ = network
    assert trained.FILE.stat().st_size <= 2_000_000
    assert sum(p.numel() for p in net.parameters()) == 758_226
    assert not net.training
    assert {p.dtype for p in net.parameters()} == {torch.float32}


def test_another_file_is_refused(tmp_path):
    place = tmp_path / "weights.safetensors"
    place.write_bytes(trained.FILE.read_bytes()[:-1])
    words = rf"has SHA-256 [0-9a-f]{{64}} \([\d,]+ bytes\): expected {trained.SHA256}"
    with pytest.raises(ValueError, match=words):
        trained_densenet(place)


def test_a_path_may_be_a_string(network):
    net, record = trained_densenet(str(trained.FILE))
    assert_equal_states(net, network[0])
    assert record == network[1]


def test_no_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="expected the trained weights"):
        trained_densenet(tmp_path / "weights.safetensors")


def test_no_record(monkeypatch):
    monkeypatch.setattr(records, "load", lambda *_: [])
    with pytest.raises(FileNotFoundError, match="belongs to a run without a record"):
        trained_densenet()


# The export


@pytest.fixture
def run_that_ended(tmp_path):
    """The record and the checkpoint of a run, as the trainer leaves them."""
    (record, *_) = records.load("parameters", "densenet", "cpu")
    place = tmp_path / "parameters-densenet-0-cpu.json"
    place.write_text(json.dumps(record))
    net = DenseNet(**record["configuration"]["model"])
    content = {"history": record["history"], "state": {"model": net.state_dict()}}
    torch.save(content, tmp_path / f"{place.stem}.pt")
    return place, net


def test_there_and_back(run_that_ended, tmp_path, monkeypatch):
    place, net = run_that_ended
    target = tmp_path / "weights.safetensors"
    monkeypatch.setattr(trained, "SHA256", weights.export(place, tmp_path, target))
    found, record = trained_densenet(target)
    assert record == json.loads(place.read_text())
    for name, value in net.state_dict().items():
        rounded = value.half() if value.dim() == 4 else value
        assert torch.equal(found.state_dict()[name], rounded.to(value.dtype)), name
    stored = safetensors.torch.load_file(target)
    assert stored["net.stem.0.weight"].dtype == torch.float16


def test_the_checkpoint_of_another_run_is_refused(run_that_ended, tmp_path):
    place, _ = run_that_ended
    record = json.loads(place.read_text())
    record["history"].pop()
    place.write_text(json.dumps(record))
    target = tmp_path / "weights.safetensors"
    with pytest.raises(ValueError, match="is that of another run"):
        weights.export(place, tmp_path, target)
    assert not target.exists()


def test_the_weights_of_another_run_are_not_replaced(run_that_ended, tmp_path):
    place, _ = run_that_ended
    target = tmp_path / "weights.safetensors"
    other = safetensors.torch.save({"w": torch.zeros(1)}, {"experiment": "densenet"})
    for data in (other, b"no weights"):
        target.write_bytes(data)
        words = f"{target} does not hold the weights of {place.name}: name another fil"
        with pytest.raises(ValueError, match=words):
            weights.export(place, tmp_path, target)
        assert target.read_bytes() == data
    target.unlink()
    assert weights.export(place, tmp_path, target)
    assert weights.export(place, tmp_path, target)  # its own may be written anew


@pytest.mark.parametrize("data", [b"", b"hello", b"[1]", b"{}", b"\x80"])
def test_an_export_of_what_is_damaged_is_refused(run_that_ended, tmp_path, data):
    place, _ = run_that_ended
    target, checkpoint = tmp_path / "target", place.with_suffix(".pt")
    for cut in (data, checkpoint.read_bytes()[:-100]):
        checkpoint.write_bytes(cut)
        with pytest.raises(ValueError, match=f"^{checkpoint} is cut, damaged or no"):
            weights.export(place, tmp_path, target)
    place.write_bytes(data)
    with pytest.raises(ValueError, match=f"^{place} is no record: expected one of"):
        weights.export(place, tmp_path, target)
    assert not target.exists()


def test_the_export_writes_where_it_is_told(run_that_ended, tmp_path, monkeypatch):
    place, _ = run_that_ended
    target = tmp_path / "weights.safetensors"
    monkeypatch.setattr(weights, "CHECKPOINTS", tmp_path)
    monkeypatch.setattr(sys, "argv", ["weights", str(place), "--output", str(target)])
    weights.main()
    assert target.exists()


# The experiment


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("after", [False, True])
def test_a_cut_leaves_each_reader_its_latest_sources(steps, after):
    net = DenseNet(num_channels=8, growth_rate=4, arch=(3, 2))
    whole = [p.clone() for p in net.parameters()]
    shorter = reuse.cut(net, steps, after)
    assert all(map(torch.equal, net.parameters(), whole))  # it is a copy
    heard = []
    for module, before in zip(shorter.modules(), net.modules(), strict=True):
        if isinstance(module, nn.Conv2d | nn.Linear):
            out, read = module.weight.shape[:2]
            left = module.weight.reshape(out, read, -1).any(-1).any(0)
            heard.append(int(left.sum()))
            kept = module.weight[:, left]
            assert torch.equal(kept, before.weight[:, left])
    # Stem; block 1 and its transition (8 channels enter); block 2 (10), classifier.
    blocks = [(8, [0, 1, 2]), (10, [0, 1])]
    expected = [1]
    for entering, layers in blocks:
        ends = layers + [len(layers)]
        for earlier in ends:
            all_of_it = entering + 4 * earlier
            own = after or earlier < ends[-1]
            cut = own and steps <= earlier
            expected.append(4 * steps if cut else all_of_it)
    assert heard == expected


def test_recalibrated_statistics_are_those_of_the_images():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3))
    batches = [(torch.randn(8, 1, 6, 6), None) for _ in range(3)]
    reuse.recalibrate(net, batches)
    made = [net[0](X) for X, _ in batches]
    means = torch.stack([Y.mean((0, 2, 3)) for Y in made]).mean(0)
    torch.testing.assert_close(net[1].running_mean, means)
    assert not net.training


@pytest.mark.parametrize("arm", reuse.ARMS)
def test_a_miniature_of_what_is_recorded(arm, tmp_path, monkeypatch):
    full = reuse.ARMS[arm]
    tiny = full | {"images": 20} | ({"steps": [2]} if "steps" in full else {})
    monkeypatch.setitem(reuse.ARMS, arm, tiny)
    record = reuse.execute(Run("reuse", arm, 0, "cpu", tmp_path))
    records.write(record, tmp_path)
    (committed,) = records.load("reuse", arm, "cpu")
    assert committed["configuration"] == full
    assert committed.keys() - {"note"} == record.keys()
    if arm == "mistakes":
        hits = sum(row[i] for i, row in enumerate(committed["figures"]["confusion"]))
        assert hits / 10_000 == trained_densenet()[1]["test_accuracy"]
        assert len(record["figures"]["hardest"]) == len(committed["figures"]["hardest"])
    else:
        assert [*committed["figures"]] == [str(steps) for steps in full["steps"]]
        assert committed["figures"]["1"].keys() == record["figures"]["2"].keys()
