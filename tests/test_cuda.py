"""What runs on CUDA alone; skipped where there is none."""

import pytest
import torch

from d2l_dense import DenseNet, FashionMNIST, Trainer, one_cycle

pytestmark = [
    pytest.mark.cuda,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA here"),
]


def test_trains_there_on_batches_made_there():
    torch.manual_seed(0)
    data = FashionMNIST(batch_size=64, limit=512)
    model = DenseNet(lr=0.1, momentum=0.9)
    trainer = Trainer(2, schedule=one_cycle, progress=False)
    history = trainer.fit(model, data)
    assert trainer.device.type == "cuda"
    assert trainer.precision in ("bf16-mixed", "16-mixed")
    assert next(iter(data.train_dataloader()))[0].is_cuda
    assert history[1]["train_loss"] < history[0]["train_loss"]


def test_same_logits_as_on_the_cpu():
    torch.manual_seed(0)
    net, X = DenseNet().double().eval(), torch.randn(2, 1, 96, 96).double()
    with torch.no_grad():
        expected = net(X)
        found = net.cuda()(X.cuda()).cpu()
    torch.testing.assert_close(found, expected)


def test_resumes(tmp_path):
    def train(max_epochs, **options):
        torch.manual_seed(0)
        data = FashionMNIST(batch_size=64, limit=128)
        trainer = Trainer(max_epochs, progress=False, precision="32-true", **options)
        return trainer.fit(DenseNet(lr=0.01), data)

    path = tmp_path / "run.pt"
    first = train(2, checkpoint=path)
    again = train(2, checkpoint=path)
    assert again == first
