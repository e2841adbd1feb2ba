"""Continues a text in the manner of "Alice's Adventures in Wonderland", one character at a time, as a stream.

curl -N localhost:8000 -H 'Content-Type: application/json' -d '{"prompt": "The Cat said ", "max_tokens": 300}'
"""

from pathlib import Path

import torch
from network import REACH, CharacterTransformer, Memory
from pydantic import BaseModel, Field
from safetensors import safe_open

WEIGHTS = Path(__file__).with_name("weights.safetensors")


class Ask(BaseModel):
    """What to write: temperature 0 takes the likeliest character each time, and a seed gives the same text again."""

    prompt: str = Field("Alice ", min_length=1, max_length=10_000)
    max_tokens: int = Field(500, ge=1, le=100_000)
    temperature: float = Field(0.5, ge=0, le=2)
    seed: int | None = Field(None, ge=0, lt=2**63)


class PythonPredictor:
    def __init__(self, config):
        torch.set_num_threads(1)  # a step is too small to be shared out among cores
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        with safe_open(WEIGHTS, framework="pt", device=self.device) as file:
            self.alphabet = file.metadata()["alphabet"]
            self.network = CharacterTransformer(len(self.alphabet)).to(self.device).eval()
            self.network.load_state_dict({name: file.get_tensor(name) for name in file.keys()})  # noqa: SIM118 - it is no mapping

    def predict(self, payload: Ask):
        chance = torch.Generator()
        if payload.seed is None:
            chance.seed()
        else:
            chance.manual_seed(payload.seed)
        memory = Memory()
        characters = self.read(payload.prompt)
        for _ in range(payload.max_tokens):
            with torch.inference_mode():  # left at each yield: the mode belongs to the thread, not to the generator
                logits = self.network(characters, memory)[0, -1]
                choice = choose(logits.cpu(), payload.temperature, chance)
            characters = torch.tensor([[choice]], device=self.device)
            yield self.alphabet[choice]

    def read(self, text):
        """The text as `(1, length)` int64; straight quotes turn, and what the book has no character for is a space."""
        text = text[-REACH:].replace("'", "\u2019").replace('"', "\u201c")
        space = self.alphabet.index(" ")
        found = [self.alphabet.find(character) for character in text]
        return torch.tensor([[space if place < 0 else place for place in found]], device=self.device)


def choose(logits, temperature, chance):
    """The next character, drawn by how likely each is; the colder, the more so."""
    if temperature == 0:
        return int(logits.argmax())
    return int(torch.multinomial((logits / temperature).softmax(dim=0), 1, generator=chance))
