"""Trains the network on `alice.txt` and writes `weights.safetensors`, the same bytes each time.

Run it with `.venv/bin/python examples/text_generation/train.py`; it takes about four minutes on
one core. The text is Lewis Carroll's "Alice's Adventures in Wonderland" (1865), which is in the
public domain.
"""

import argparse
from pathlib import Path

import torch
from network import CharacterTransformer
from safetensors.torch import save_file
from torch import Tensor, nn

HERE = Path(__file__).parent
SEED = 7
STEPS = 1100
BATCH_SIZE = 8
LENGTH = 256
LEARNING_RATE = 4e-3
KEPT_CHARACTERS = 7000
"""The end of the book is kept from the training, to measure by."""


def train(text: Tensor, alphabet_size: int, steps: int) -> CharacterTransformer:
    """A network that has read pieces of the text, `(characters,)` int64, ready to predict."""
    torch.manual_seed(SEED)
    network = CharacterTransformer(alphabet_size)
    optimizer = torch.optim.AdamW(network.parameters(), betas=(0.9, 0.99), weight_decay=0.1)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=LEARNING_RATE, total_steps=steps, pct_start=0.1, cycle_momentum=False
    )
    for step in range(steps):
        starts = torch.randint(len(text) - LENGTH, (BATCH_SIZE, 1))
        pieces = text[starts + torch.arange(LENGTH + 1)]
        loss = surprise(network, pieces)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 100 == 0:
            print(f"step {step} of {steps}: {loss:.2f} nats a character", flush=True)
    return network.eval()


def surprise(network: CharacterTransformer, pieces: Tensor) -> Tensor:
    """The mean of how unlikely each next character was held to be, in nats."""
    logits = network(pieces[:, :-1])
    return nn.functional.cross_entropy(logits.flatten(0, 1), pieces[:, 1:].flatten())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=HERE, help="where to write; default: here")
    parser.add_argument("--steps", type=int, default=STEPS, help=f"default: {STEPS}")
    options = parser.parse_args()
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(1)  # the order of sums, and so the weights, would depend on the number of cores
    text = (HERE / "alice.txt").read_text()
    alphabet = "".join(sorted(set(text)))
    characters = torch.tensor([alphabet.index(character) for character in text])
    network = train(characters[:-KEPT_CHARACTERS], len(alphabet), options.steps)
    with torch.inference_mode():
        kept = surprise(network, characters[None, -KEPT_CHARACTERS:])
    weights = {name: weight.half() for name, weight in network.state_dict().items()}
    save_file(weights, options.folder / "weights.safetensors", metadata={"alphabet": alphabet})
    print(f"{kept:.2f} nats a character on {KEPT_CHARACTERS} unseen ones")


if __name__ == "__main__":
    main()
