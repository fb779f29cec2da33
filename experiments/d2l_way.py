"""D2L's way of training the chapter's model, to measure ours against.

Its network in plain form, single precision, its data set class with an image at a
time through PIL, four workers, and the step of its trainer. As a command it prints
how many images per second it trains: `python -m experiments.d2l_way DEVICE STEPS`.
"""

import sys
import time
import warnings
from collections.abc import Iterator

import torch
from d2l import torch as d2l
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from d2l_dense import FashionMNIST


class PlainDenseBlock(nn.Module):
    """D2L's dense block. Shape: (N, C, H, W) -> (N, C + layers * k, H, W)"""

    def __init__(self, in_channels: int, num_layers: int, growth_rate: int) -> None:
        super().__init__()
        widths = [in_channels + i * growth_rate for i in range(num_layers)]
        self.net = nn.ModuleList(
            nn.Sequential(
                nn.BatchNorm2d(c), nn.ReLU(), nn.Conv2d(c, growth_rate, 3, padding=1)
            )
            for c in widths
        )

    def forward(self, X: Tensor) -> Tensor:
        for layer in self.net:
            X = torch.cat((X, layer(X)), dim=1)
        return X


class PlainDenseNet(d2l.Classifier):
    """D2L's network in D2L's order of layers. Shape: (N, 1, H, W) -> (N, 10)"""

    def __init__(self, lr: float = 0.01) -> None:
        super().__init__()
        self.save_hyperparameters()
        stem = nn.Conv2d(1, 64, kernel_size=7, stride=2, padding=3)
        layers = [stem, nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(3, 2, padding=1)]
        c = 64
        for i in range(4):
            layers.append(PlainDenseBlock(c, num_layers=4, growth_rate=32))
            c += 4 * 32
            if i < 3:
                layers += [nn.BatchNorm2d(c), nn.ReLU(), nn.Conv2d(c, c // 2, 1)]
                layers.append(nn.AvgPool2d(kernel_size=2, stride=2))
                c //= 2
        layers += [nn.BatchNorm2d(c), nn.ReLU(), nn.AdaptiveAvgPool2d(1)]
        self.net = nn.Sequential(*layers, nn.Flatten(), nn.Linear(c, 10))


class OneImageAtATime(Dataset):
    """The training images as D2L serves them, through PIL."""

    def __init__(self, data: FashionMNIST) -> None:
        self.images, self.labels = data.train.images[:, 0].numpy(), data.train.labels
        steps = [transforms.Resize(data.resize), transforms.ToTensor()]
        self.transform = transforms.Compose(steps)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image = self.transform(Image.fromarray(self.images[index]))
        return image, int(self.labels[index])


def steps(data: FashionMNIST, device: torch.device) -> Iterator[int]:
    """Train D2L's way; yield the number of images after each step."""
    dataset = OneImageAtATime(data)
    # Four workers are D2L's choice, on two cores too.
    warnings.filterwarnings("ignore", "This DataLoader will create 4 worker")
    loader = DataLoader(dataset, data.batch_size, shuffle=True, num_workers=4)
    model = PlainDenseNet().to(device).train()
    optimizer = model.configure_optimizers()
    while True:
        for X, y in loader:
            loss = model.loss(model(X.to(device)), y.to(device))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            yield len(y)


def images_per_second(steps: Iterator[int], device: torch.device, n: int) -> float:
    """Take n steps, and wait until the device has done them."""
    start = time.perf_counter()
    images = sum(next(steps) for _ in range(n))
    if device.type != "cpu":
        getattr(torch, device.type).synchronize()
    return images / (time.perf_counter() - start)


if __name__ == "__main__":
    device, n = torch.device(sys.argv[1]), int(sys.argv[2])
    training = steps(FashionMNIST(batch_size=128, resize=(96, 96)), device)
    images_per_second(training, device, 2)  # warms up
    print(images_per_second(training, device, n))
