"""Trains the network on scikit-learn's digits and writes `weights.safetensors`, the same bytes each time.

Run it with `.venv/bin/python examples/digits/train.py`; it takes a few seconds on a CPU. Beside
the weights it writes `seven.png`, dark on light, from the digits that it kept from the training.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from network import DigitNetwork
from PIL import Image
from safetensors.torch import save_file
from sklearn.datasets import load_digits
from torch import Tensor, nn

SEED = 7
EPOCHS = 20
BATCH_SIZE = 64
TEST_SHARE = 0.2
SAMPLE = 22
"""A clear one among the unseen sevens."""


def load_data() -> tuple[Tensor, Tensor]:
    """Ink from 0 to 1 as `(1797, 1, 8, 8)` float32, and the digits as int64, shuffled."""
    data = load_digits()
    order = np.random.default_rng(SEED).permutation(len(data.target))
    ink = torch.from_numpy(data.images[order] / 16).float().unsqueeze(1)
    return ink, torch.from_numpy(data.target[order])


def distort(ink: Tensor) -> Tensor:
    """Turn, stretch and shift each digit a little, as the pictures of strangers do."""
    matrix = torch.eye(2, 3).repeat(len(ink), 1, 1)
    matrix += torch.randn_like(matrix) * torch.tensor([0.1, 0.1, 0.08])
    grid = nn.functional.affine_grid(matrix, list(ink.shape), align_corners=False)
    return nn.functional.grid_sample(ink, grid, align_corners=False)


def train(ink: Tensor, digits: Tensor) -> DigitNetwork:
    """A trained network, ready to predict."""
    torch.manual_seed(SEED)
    network = DigitNetwork()
    steps = EPOCHS * -(-len(ink) // BATCH_SIZE)
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.01, total_steps=steps)
    for _ in range(EPOCHS):
        for chosen in torch.randperm(len(ink)).split(BATCH_SIZE):
            loss = nn.functional.cross_entropy(network(distort(ink[chosen])), digits[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return network.eval()


def save_sample(ink: Tensor, file: Path) -> None:
    """Write one digit as a picture of 160x160 pixels, dark on light."""
    grey = (255 * (1 - ink.squeeze())).to(torch.uint8).numpy()
    picture = Image.fromarray(grey).resize((128, 128), Image.Resampling.BICUBIC)
    sheet = Image.new("L", (160, 160), 255)
    sheet.paste(picture, (16, 16))
    sheet.save(file, optimize=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=Path(__file__).parent, help="where to write; default: here")
    folder = parser.parse_args().folder
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(1)  # the order of sums, and so the weights, would depend on the number of cores
    ink, digits = load_data()
    kept = int(len(digits) * TEST_SHARE)
    network = train(ink[kept:], digits[kept:])
    accuracy = (network.probabilities(ink[:kept]).argmax(dim=1) == digits[:kept]).float().mean()
    save_file(network.state_dict(), folder / "weights.safetensors")
    save_sample(ink[:kept][digits[:kept] == 7][SAMPLE], folder / "seven.png")
    print(f"{accuracy:.1%} of {kept} unseen digits are read right")


if __name__ == "__main__":
    main()
