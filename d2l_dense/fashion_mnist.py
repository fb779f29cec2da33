"""Fashion-MNIST, a batch at a time."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from d2l import torch as d2l
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset
from torchvision import datasets

from d2l_dense.checks import count, counts
from d2l_dense.files import data_folders, find_or_fetch

SHA_256 = {  # of the files, decompressed; in this order
    "train-images": "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
    "train-labels": "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
    "t10k-images": "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
    "t10k-labels": "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
}
VALIDATION_PER_CLASS = 500


def fashion_mnist_files(root: str | Path | None = None) -> Iterator[tuple[Path, bytes]]:
    """Yield where each of the four files is, and its bytes; fetch what is missing."""
    folders = [f / raw for f in data_folders(root) for raw in ("FashionMNIST/raw", "")]
    for part, digest in SHA_256.items():
        name = f"{part}-idx{3 if 'images' in part else 1}-ubyte"
        addresses = [f"{mirror}{name}.gz" for mirror in datasets.FashionMNIST.mirrors]
        advice = " (Debian, Ubuntu: make data)"
        yield find_or_fetch([f / name for f in folders], addresses, digest, advice)


class FashionMNIST(d2l.FashionMNIST):
    """Fashion-MNIST in three disjoint splits: 55,000, 5,000 and 10,000 images.

    The validation split holds the last 500 training images of each class. Images
    rest in memory as uint8 and become floats in [0, 1] a batch at a time: X of shape
    (N, 1, H, W) and float32, y of (N,) and int64.

    Args:
        resize: height and width of the images, bilinear; an int for squares.
        root: folder to look into first, and to download to.
        flip: whether each training image is mirrored with probability 1/2.
        limit: of each split, only so many images, for a short run.
    Source: Xiao, Rasul and Vollgraf (2017). Chapter: "Training".
    """

    def __init__(
        self, batch_size=128, resize=(96, 96), *, root=None, flip=True, limit=None
    ) -> None:
        # d2l.FashionMNIST gives text_labels and visualize; its __init__ would download.
        d2l.DataModule.__init__(self, root=root, num_workers=0)
        batch_size = count("batch_size", batch_size)
        resize = resize if hasattr(resize, "__len__") else (resize, resize)
        resize = counts("resize", resize, length=2)
        limit = count("limit", limit, optional=True)
        self.save_hyperparameters(ignore=["root"])

        files = [bytearray(data) for _, data in fashion_mnist_files(root)]
        files = [torch.frombuffer(data, dtype=torch.uint8) for data in files]
        images, test_images = (file[16:].view(-1, 1, 28, 28) for file in files[::2])
        labels, test_labels = (file[8:].long() for file in files[1::2])
        by_class = labels.argsort(stable=True).view(10, -1)
        train = by_class[:, :-VALIDATION_PER_CLASS].flatten().sort().values[:limit]
        val = by_class[:, -VALIDATION_PER_CLASS:].T.flatten()[:limit]  # classes in turn
        self.train = _Split(images[train], labels[train], resize, flip)
        self.val = _Split(images[val], labels[val], resize)
        self.test = _Split(test_images[:limit], test_labels[:limit], resize)

    def to(self, device: torch.device | str) -> "FashionMNIST":
        """Move the images to a device; batches are then made there."""
        for part in (self.train, self.val, self.test):
            part.images, part.labels = part.images.to(device), part.labels.to(device)
        return self

    def get_dataloader(self, train: bool) -> DataLoader:
        """Loader of the training or the validation split."""
        return (self.train if train else self.val).loader(self.batch_size, train)

    def test_dataloader(self) -> DataLoader:
        """Loader of the test split."""
        return self.test.loader(self.batch_size)


@dataclass(eq=False)
class _Split(Dataset):
    """uint8 images (n, 1, 28, 28) and labels (n,), served by the batch."""

    images: torch.Tensor
    labels: torch.Tensor
    resize: tuple[int, int]
    flip: bool = False

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, torch.Tensor]:
        return tuple(part[0] for part in self.batch([index]))

    def loader(self, batch_size: int, shuffle: bool = False) -> DataLoader:
        return DataLoader(range(len(self)), batch_size, shuffle, collate_fn=self.batch)

    def batch(self, indices: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
        chosen = torch.tensor(indices, device=self.images.device)
        X = self.images[chosen]
        if self.flip:
            mirrored = torch.rand(len(X)).to(X.device) < 0.5
            X = torch.where(mirrored[:, None, None, None], X.flip(-1), X)
        X = X.float() / 255
        if X.shape[-2:] != self.resize:
            X = F.interpolate(X, self.resize, mode="bilinear", antialias=True)
        return X, self.labels[chosen]
