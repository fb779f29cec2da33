"""Fashion-MNIST, a batch at a time."""

from collections.abc import Sequence
from pathlib import Path

import torch
from d2l import torch as d2l
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from d2l_dense.checks import check_bool, check_positive
from d2l_dense.data import files

VALIDATION_PER_CLASS = 500


class FashionMNIST(d2l.FashionMNIST):
    """Fashion-MNIST in three disjoint splits: 55,000, 5,000 and 10,000 images.

    The validation split holds the last 500 training images of each class; the
    test split is the data set's own. All images rest in memory as uint8 and
    become floats in [0, 1] a batch at a time.

    Batches: X (N, 1, *resize) float32, y (N,) int64

    Args:
        batch_size: images a batch.
        resize: height and width of the images, bilinear; an int for squares.
        root: folder to look into first, and to download to.
        flip: whether each training image is mirrored with probability 1/2.
        limit: of each split, only so many images, for a short run.

    Raises:
        ValueError: if an argument is out of range, or a file is not the real one.
        FileNotFoundError: if the files are nowhere and cannot be fetched.

    Source: Xiao, Rasul and Vollgraf (2017). Chapter: "Training".
    """

    def __init__(
        self,
        batch_size: int = 128,
        resize: int | Sequence[int] = (96, 96),
        *,
        root: str | Path | None = None,
        flip: bool = True,
        limit: int | None = None,
    ) -> None:
        # d2l.FashionMNIST gives text_labels and visualize; its constructor
        # would download.
        d2l.DataModule.__init__(self, root=root, num_workers=0)
        resize = (resize, resize) if isinstance(resize, int) else resize
        if not isinstance(resize, tuple | list) or len(resize) != 2:
            raise ValueError(f"resize={resize!r}: expected (height, width) or an int")
        resize = tuple(resize)
        self.save_hyperparameters(ignore=["root"])
        check_bool(flip=flip)
        check_positive(batch_size=batch_size, limit=1 if limit is None else limit)
        check_positive(**{"resize's height": resize[0], "resize's width": resize[1]})

        arrays = [
            torch.tensor(files.read(p)) for p in files.fashion_mnist(root).values()
        ]
        images, labels, test_images, test_labels = arrays
        labels, test_labels = labels.long(), test_labels.long()
        of_class = [(labels == label).nonzero()[:, 0] for label in range(10)]
        # One of each class in turn, so that a limit leaves the classes even.
        held_out = torch.stack([own[-VALIDATION_PER_CLASS:] for own in of_class], 1)
        val = held_out.flatten()[:limit]
        kept = torch.ones(len(labels), dtype=torch.bool)
        kept[held_out] = False
        train = kept.nonzero()[:, 0][:limit]
        self.train = _Split(images[train], labels[train], resize, flip)
        self.val = _Split(images[val], labels[val], resize)
        self.test = _Split(test_images[:limit], test_labels[:limit], resize)

    def to(self, device: torch.device | str) -> "FashionMNIST":
        """Move the images to a device; batches are then made there."""
        for split in (self.train, self.val, self.test):
            split.images, split.labels = (
                split.images.to(device),
                split.labels.to(device),
            )
        return self

    def get_dataloader(self, train: bool) -> DataLoader:
        """Loader of the training or the validation split."""
        return self._loader(self.train if train else self.val, shuffle=train)

    def test_dataloader(self) -> DataLoader:
        """Loader of the test split."""
        return self._loader(self.test, shuffle=False)

    def _loader(self, split: "_Split", shuffle: bool) -> DataLoader:
        return DataLoader(split, self.batch_size, shuffle, collate_fn=_as_it_is)


class _Split(Dataset):
    """uint8 images (n, 28, 28) and their labels (n,), served by the batch."""

    def __init__(
        self,
        images: Tensor,
        labels: Tensor,
        resize: tuple[int, int],
        flip: bool = False,
    ) -> None:
        self.images, self.labels = images.unsqueeze(1), labels  # (n, 1, 28, 28)
        self.resize, self.flip = resize, flip

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        X, y = self.__getitems__([index])
        return X[0], y[0]

    def __getitems__(self, indices: list[int]) -> tuple[Tensor, Tensor]:
        chosen = torch.tensor(indices, device=self.images.device)
        X = self.images[chosen]
        if self.flip:
            mirrored = torch.rand(len(X)).to(X.device) < 0.5
            X = torch.where(mirrored[:, None, None, None], X.flip(-1), X)
        X = X.float() / 255
        if X.shape[-2:] != self.resize:
            X = F.interpolate(X, self.resize, mode="bilinear", antialias=True)
        return X, self.labels[chosen]


def _as_it_is(batch: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    return batch  # `__getitems__` has made the batch already
