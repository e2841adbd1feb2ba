"""A small convolutional network that tells the digits of scikit-learn's 8x8 data set apart."""

import torch
from torch import Tensor, nn


class DigitNetwork(nn.Module):
    """Takes ink from 0 to 1 as `(batch, 1, 8, 8)` float32, and gives `(batch, 10)` logits."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 16, kernel_size=3, padding=1),
            nn.ReLU(),
            nn.Conv2d(16, 32, kernel_size=3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(32 * 4 * 4, 10),
        )

    def forward(self, ink: Tensor) -> Tensor:
        logits: Tensor = self.layers(ink)
        return logits

    @torch.inference_mode()
    def probabilities(self, ink: Tensor) -> Tensor:
        """How likely each digit is, `(batch, 10)`, rows adding up to 1."""
        return self(ink).softmax(dim=1)
