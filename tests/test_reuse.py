"""experiments/reuse.py: ablations of the trained network."""

import sys

import pytest
import torch
from torch import nn

from d2l_dense import DenseNet, records, trained_densenet
from experiments import __main__, reuse


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("m", [1, 2, 5])
def test_an_ablated_network_reads_the_latest_sources(m, after):
    net = DenseNet(num_channels=8, growth_rate=4, arch=(3, 2))
    whole = [p.clone() for p in net.parameters()]
    shorter = reuse.ablated(net, "latest", m, after)
    assert all(map(torch.equal, net.parameters(), whole))  # it is a copy
    read = []
    for module, before in zip(shorter.modules(), net.modules(), strict=True):
        if isinstance(module, nn.Conv2d | nn.Linear):
            out, width = module.weight.shape[:2]
            left = module.weight.reshape(out, width, -1).any(-1).any(0)
            read.append(int(left.sum()))
            assert torch.equal(module.weight[:, left], before.weight[:, left])
    # Stem; block 1 and its transition (8 channels enter); block 2 (10), classifier.
    expected = [1]
    for entering, num_layers in ((8, 3), (10, 2)):
        for i in range(num_layers + 1):
            ablated = m <= i and (after or i < num_layers)
            expected.append(4 * m if ablated else entering + 4 * i)
    assert read == expected


def test_what_a_layer_keeps():
    kept = {which: keep([0, 1, 2, 3], 2) for which, keep in reuse.KEPT.items()}
    assert len({*kept.pop("random")}) == 2
    assert kept == {"latest": [2, 3], "earliest": [0, 1], "without": [0, 1, 3]}
    assert reuse.KEPT["without"]([0], 0) == [0]


@pytest.mark.parametrize("arm", reuse.ARMS)
def test_a_miniature_of_what_is_recorded(arm, tmp_path, monkeypatch):
    full = reuse.ARMS[arm]
    short = {"images": 20, "steps": [2], "kept": [1], "draws": 1, "lost": [0]}
    tiny = full | {key: short[key] for key in short if key in full}
    monkeypatch.setitem(reuse.ARMS, arm, tiny)
    monkeypatch.setattr(reuse, "train", lambda run: (None, DenseNet(), None))
    options = f"reuse --seeds 2 --arms {arm} --results {tmp_path} --checkpoints"
    monkeypatch.setattr(sys, "argv", ["experiments", *options.split(), str(tmp_path)])
    __main__.main()
    record, other = records.load("reuse", folder=tmp_path)
    assert other["figures"] != record["figures"]  # of another network
    for committed in records.load("reuse", arm, "cpu"):
        assert committed["configuration"] == full
        assert committed.keys() - {"note"} == record.keys()
    if arm == "mistakes":
        hits = sum(row[i] for i, row in enumerate(committed["figures"]["confusion"]))
        assert hits / 10_000 == trained_densenet()[1]["test_accuracy"]
    else:
        assert record["figures"].keys() <= committed["figures"].keys()
