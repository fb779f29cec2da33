"""The whole network."""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from d2l import torch as d2l
from torch import Tensor, nn

from d2l_dense.blocks import DenseBlock, TransitionBlock
from d2l_dense.checks import (
    autocasts,
    check_choice,
    check_images,
    check_number,
    check_positive,
    is_count,
)
from d2l_dense.out_of_memory import explained
from d2l_dense.pools import POOLS
from d2l_dense.stages import Stages
from d2l_dense.stems import STEMS, initialise
from d2l_dense.variants import VARIANTS, from_torchvision, to_torchvision


class DenseNet(d2l.Classifier):
    """A stem, dense blocks with transitions between them, and a head.

    Shape: (N, in_channels, H, W) -> (N, num_classes)

    Args:
        num_channels: channels after the stem.
        growth_rate: channels that each layer adds (k in the paper).
        arch: number of layers of each dense block.
        lr: learning rate, or its peak if the trainer is given a schedule.
        num_classes: number of classes.
        in_channels: channels of the images.
        bottleneck: width of the 1x1 convolution before each 3x3 one, in
            multiples of `growth_rate`; None leaves it out.
        compression: share of the channels that a transition keeps (theta).
        pool, memory: as in `TransitionBlock` and `DenseBlock`.
        bias: whether the convolutions have a bias, as D2L's have.
        stem: "imagenet", 7x7 convolution and max pooling, a quarter of the side;
            or "cifar", a 3x3 convolution that keeps it.
        momentum: Nesterov momentum of the optimizer; 0 is plain SGD.
        weight_decay: L2 penalty of the optimizer.

    The five positional arguments and the default, with its 758,226 parameters,
    are D2L's. Convolutions start from He's initialization.

    Raises:
        ValueError: if an argument is out of range; it names the argument, its
            value and what is allowed.

    Source: Huang et al. (2017), sections 3 and 4.2; D2L, section 8.7.
    Chapter: "The model".
    """

    def __init__(
        self,
        num_channels: int = 64,
        growth_rate: int = 32,
        arch: Sequence[int] = (4, 4, 4, 4),
        lr: float = 0.1,
        num_classes: int = 10,
        *,
        in_channels: int = 1,
        bottleneck: int | None = None,
        compression: float = 0.5,
        pool: str = "avg",
        memory: str = "plain",
        bias: bool = True,
        stem: str = "imagenet",
        momentum: float = 0.0,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__()
        check_positive(
            num_channels=num_channels, num_classes=num_classes, in_channels=in_channels
        )
        check_number("compression", compression, lambda x: 0 < x <= 1, "0 < theta <= 1")
        check_number("lr", lr, lambda x: x > 0, "a learning rate above 0")
        check_number("momentum", momentum, lambda x: 0 <= x < 1, "0 <= momentum < 1")
        check_number("weight_decay", weight_decay, lambda x: x >= 0, "0 or more")
        lr, compression = float(lr), float(compression)  # NumPy's numbers too
        momentum, weight_decay = float(momentum), float(weight_decay)
        self.save_hyperparameters()
        check_choice("stem", stem, STEMS)
        check_choice("pool", pool, POOLS)
        several = isinstance(arch, Sequence) and not isinstance(arch, str) and arch
        if not several or not all(map(is_count, arch)):
            raise ValueError(
                f"arch={arch!r}: expected the number of layers of each dense block, "
                "such as (4, 4, 4, 4)"
            )

        stages: OrderedDict[str, nn.Module] = OrderedDict()
        stages["stem"] = STEMS[stem](in_channels, num_channels, bias)
        stages["stem"].memory = memory
        both = {"bias": bias, "memory": memory}
        channels = num_channels
        for i, num_layers in enumerate(arch, start=1):
            block = DenseBlock(
                channels, num_layers, growth_rate, bottleneck=bottleneck, **both
            )
            stages[f"block{i}"] = block
            channels = block.out_channels
            if i < len(arch):
                narrow = int(channels * compression)
                if not narrow:
                    raise ValueError(
                        f"compression={compression!r}: expected more, it leaves "
                        f"none of the {channels} channels of block{i}"
                    )
                stages[f"transition{i}"] = TransitionBlock(
                    channels, narrow, pool=pool, **both
                )
                channels = narrow
        stages["head"] = nn.Sequential(
            nn.BatchNorm2d(channels),
            nn.ReLU(inplace=True),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(channels, num_classes),
        )
        self.net = Stages(stages)
        self.apply(initialise)

    def forward(self, X: Tensor) -> Tensor:
        """Return the logits of a batch of images.

        Raises:
            ValueError: if the images have another shape or type, are too small for
                so many blocks, or give batch normalisation a single value.
            MemoryError: if they do not fit; it says what would.
        """
        pixels = 2 ** (len(self.arch) - 1)  # that block 1 needs, a side
        shrinks = self.stem == "imagenet"  # to a quarter, rounded up
        side = 4 * pixels - 3 if shrinks else pixels
        check_images(X, self.in_channels, side, next(self.parameters()).dtype)
        h, w = ((-(-side // 4) if shrinks else side) // pixels for side in X.shape[2:])
        if self.training and len(X) * h * w == 1:
            raise ValueError(
                "one image, of one pixel in the last block, has no variance to "
                "normalise by: train on two or more, on larger ones, or call eval()"
            )
        with explained(self, X, mixed=autocasts(X)):
            return self.net(X)

    @classmethod
    def variant(cls, name: str, **overrides: Any) -> "DenseNet":
        """Return a network of `VARIANTS`; `overrides` are arguments of `DenseNet`.

        Raises:
            ValueError: if there is no such variant; it lists those that exist.
        """
        if name not in VARIANTS:
            raise ValueError(f"variant {name!r}: expected one of {', '.join(VARIANTS)}")
        return cls(**VARIANTS[name] | overrides)

    def load_torchvision(self, state_dict: Mapping[str, Tensor]) -> None:
        """Load the weights of `torchvision.models.densenet*`, strictly.

        They may bear the older names of torchvision's published files.

        Raises:
            ValueError: if they do not fit; it names the first key and both shapes.
        """
        self.load_state_dict(from_torchvision(state_dict, self.state_dict(), self.arch))

    def to_torchvision(self) -> dict[str, Tensor]:
        """Return the weights under torchvision's names, for its `load_state_dict`.

        Raises:
            ValueError: if no torchvision network is of this form.
        """
        form = self.arch, self.bottleneck, self.stem, self.bias
        return to_torchvision(self.state_dict(), *form)

    def training_step(self, batch: Sequence[Tensor]) -> Tensor:
        """Report loss and accuracy of a batch (X, y); return the loss."""
        Y_hat = self(*batch[:-1])  # (N, num_classes)
        loss = self.loss(Y_hat, batch[-1])
        self.plot("loss", loss, train=True)
        self.plot("acc", self.accuracy(Y_hat, batch[-1]), train=True)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Stochastic gradient descent with what the constructor was given."""
        return torch.optim.SGD(
            self.parameters(),
            lr=self.lr,
            momentum=self.momentum,
            weight_decay=self.weight_decay,
            nesterov=self.momentum > 0,
        )
