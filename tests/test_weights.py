"""The trained network, and experiments/weights.py, which keeps its weights."""

import json

import pytest
import safetensors.torch
import torch
from helpers import assert_equal_states

from d2l_dense import DenseNet, FashionMNIST, records, trained_densenet
from experiments import weights


def test_it_is_small_and_the_contracts_network():
    net, record = trained_densenet(str(records.WEIGHTS))
    assert records.WEIGHTS.stat().st_size <= 2_000_000
    assert sum(p.numel() for p in net.parameters()) == 758_226
    assert not net.training
    assert {p.dtype for p in net.parameters()} == {torch.float32}
    assert (record["experiment"], record["arm"]) == ("parameters", "densenet")


@pytest.mark.slow
def test_the_weights_reproduce_the_accuracy_of_their_record():
    net, record = trained_densenet()
    options = record["configuration"]["data"] | {"flip": False, "batch_size": 500}
    hits = 0
    with torch.no_grad():
        for X, y in FashionMNIST(**options).test_dataloader():
            hits += (net(X).argmax(1) == y).sum().item()
    assert hits / 10_000 == pytest.approx(record["test_accuracy"])


def test_its_first_answers_are_those_of_the_record():
    net, run = trained_densenet()
    (record,) = records.load("reuse", "mistakes", "cpu")
    data = FashionMNIST(**run["configuration"]["data"] | {"flip": False})
    for image, true, answer in record["figures"]["hardest"]:
        X, y = data.test[image]
        with torch.no_grad():
            assert (y.item(), net(X[None]).argmax().item()) == (true, answer)


def test_another_file_is_refused(tmp_path):
    place = tmp_path / "weights.safetensors"
    place.write_bytes(records.WEIGHTS.read_bytes()[:-1])
    words = rf"has SHA-256 \w+ \([\d,]+ bytes\): expected {records.WEIGHTS_SHA_256}"
    with pytest.raises(ValueError, match=words):
        trained_densenet(place)
    with pytest.raises(FileNotFoundError, match="none.safetensors"):
        trained_densenet(tmp_path / "none.safetensors")


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
    digest = weights.export(place, tmp_path, target)
    monkeypatch.setattr(records, "WEIGHTS_SHA_256", digest)
    found, record = trained_densenet(target)
    assert record == json.loads(place.read_text())
    rounded = DenseNet(**record["configuration"]["model"])
    rounded.load_state_dict(
        {k: v.half() if v.dim() == 4 else v for k, v in net.state_dict().items()}
    )
    assert_equal_states(found, rounded)
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
    target.write_bytes(other)
    with pytest.raises(ValueError, match=f"{target} does not hold the weights of"):
        weights.export(place, tmp_path, target)
    assert target.read_bytes() == other
    target.unlink()
    for _ in range(2):  # its own may be written anew
        assert weights.export(place, tmp_path, target)
