"""The dense idea on vectors: a perceptron whose layers see all that came before."""

import torch
from d2l import torch as d2l
from torch import Tensor, nn

from d2l_dense.checks import count, share


class DenseMLP(d2l.Module):
    """Dense blocks of linear layers for regression; the head sees the raw input.

    A layer (linear map, batch normalization if `norm`, ReLU, dropout) appends its
    outputs to all that it read. Between two blocks a linear map compresses what the
    layers have made; the raw input stays. The head starts at zero.

    Args:
        growth_rate: outputs that each layer appends (k).
        arch: number of layers of each dense block; () leaves a linear model.
        compression: share of the layers' outputs that is kept between two blocks.
        stem: width to which a linear map first compresses the raw input, if any.
        l1: penalty on the absolute values of all parameters, biases too; in training.
        beta: errors beyond it count linearly, in units of the target.
    Shape: (N, num_inputs) -> (N, 1)
    Source: Huang et al. (2017), equation 2. Chapter: "A Dense MLP for House Prices".
    """

    def __init__(
        self,
        num_inputs: int,
        growth_rate: int = 16,
        arch: tuple[int, ...] = (2,),
        lr: float = 0.003,
        *,
        compression: float = 0.5,
        stem: int | None = None,
        norm: bool = False,
        dropout: float = 0.1,
        weight_decay: float = 0.0,
        l1: float = 5e-4,
        beta: float = 0.15,
    ) -> None:
        super().__init__()
        num_inputs = count("num_inputs", num_inputs)
        growth_rate = count("growth_rate", growth_rate)
        arch = tuple(count("the number of layers in arch", n) for n in arch)
        stem = count("stem", stem, optional=True)
        lr, compression, dropout = float(lr), float(compression), float(dropout)
        weight_decay, l1, beta = float(weight_decay), float(l1), float(beta)
        share("compression", compression)
        self.save_hyperparameters()  # plain numbers, where they were NumPy's
        self.stem = nn.Linear(num_inputs, stem) if stem else nn.Identity()
        width = self.kept = stem or num_inputs  # kept by every transition
        self.blocks, self.transitions = nn.ModuleList(), nn.ModuleList()
        for num_layers in arch:
            if self.blocks:
                narrow = max(1, int((width - self.kept) * compression))
                self.transitions.append(nn.Linear(width - self.kept, narrow))
                width = self.kept + narrow
            layers = nn.ModuleList()
            for _ in range(num_layers):
                linear = nn.Linear(width, growth_rate)
                nn.init.kaiming_normal_(linear.weight, nonlinearity="relu")
                nn.init.zeros_(linear.bias)
                bn = nn.BatchNorm1d(growth_rate) if norm else nn.Identity()
                layers.append(nn.Sequential(linear, bn, nn.ReLU(), nn.Dropout(dropout)))
                width += growth_rate
            self.blocks.append(layers)
        self.head = nn.Linear(width, 1)
        for parameter in self.head.parameters():
            nn.init.zeros_(parameter)

    def forward(self, X: Tensor) -> Tensor:
        if self.norm and self.training and X.shape[0] == 1:
            advice = "choose another batch_size, or drop_last=True in the DataLoader"
            raise ValueError(f"norm=True cannot train on a batch of one: {advice}")
        X = self.stem(X)  # (N, kept)
        for i, layers in enumerate(self.blocks):
            if i:
                made = self.transitions[i - 1](X[:, self.kept :])
                X = torch.cat((X[:, : self.kept], made), dim=1)
            for layer in layers:
                X = torch.cat((X, layer(X)), dim=1)  # growth_rate more columns
        return self.head(X)  # (N, 1)

    def loss(self, Y_hat: Tensor, Y: Tensor) -> Tensor:
        """Squared up to errors of `beta`, linear beyond: one odd sale pulls less."""
        if Y.shape != Y_hat.shape:  # PyTorch would repeat both to (N, N)
            raise ValueError(f"targets of shape {[*Y.shape]}, not {[*Y_hat.shape]}")
        return nn.functional.smooth_l1_loss(Y_hat, Y, beta=self.beta)

    def training_step(self, batch: tuple[Tensor, ...]) -> Tensor:
        """Report the loss of a batch (X, Y); return it with the penalty."""
        loss = d2l.Module.training_step(self, batch)  # for networks that borrow this
        return loss + self.l1 * sum(p.abs().sum() for p in self.parameters())

    def validation_step(self, batch: tuple[Tensor, ...]) -> None:
        """Report the loss and the mean squared error of a batch (X, Y)."""
        Y_hat = self(*batch[:-1])
        self.plot("loss", self.loss(Y_hat, batch[-1]), train=False)
        self.plot("mse", nn.functional.mse_loss(Y_hat, batch[-1]), train=False)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """AdamW with what the constructor was given."""
        options = {"weight_decay": self.weight_decay, "fused": True}
        return torch.optim.AdamW(self.parameters(), self.lr, **options)
