"""A small transformer that reads text character by character and says what may come next."""

import torch
from torch import Tensor, nn
from torch.nn import functional

WIDTH = 128
LAYERS = 3
HEADS = 4
WINDOW = 128
"""How many characters a layer sees: the present one and those before it."""
REACH = LAYERS * WINDOW
"""Nothing that stands farther back can matter, layer upon layer."""


class Memory:
    """What has been read: the keys and values of each layer's last characters, so that none is read twice."""

    def __init__(self) -> None:
        self.characters_read = 0
        self._past: dict[int, tuple[Tensor, Tensor]] = {}

    def extend(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """The layer's keys and values up to the present, `(batch, heads, length, width)`."""
        if layer in self._past:
            past_keys, past_values = self._past[layer]
            keys, values = torch.cat([past_keys, keys], dim=2), torch.cat([past_values, values], dim=2)
        self._past[layer] = keys[:, :, -(WINDOW - 1) :], values[:, :, -(WINDOW - 1) :]
        return keys, values


class CharacterTransformer(nn.Module):
    """Takes characters as `(batch, length)` int64 and gives `(batch, length, alphabet_size)` logits."""

    def __init__(self, alphabet_size: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(alphabet_size, WIDTH)
        self.layers = nn.ModuleList(Layer(number) for number in range(LAYERS))
        self.norm = nn.RMSNorm(WIDTH)
        nn.init.normal_(self.embedding.weight, std=0.05)

    def forward(self, characters: Tensor, memory: Memory | None = None) -> Tensor:
        """What may follow each character; with a memory they continue what it has read, and it reads them too."""
        memory = memory or Memory()
        length = characters.shape[1]
        turn = rotation(memory.characters_read, length, characters.device)
        memory.characters_read += length
        stream = self.embedding(characters)
        for layer in self.layers:
            stream = layer(stream, turn, memory)
        logits: Tensor = functional.linear(self.norm(stream), self.embedding.weight)
        return logits


class Layer(nn.Module):
    """Attention to the characters before, then a perceptron, each added to the stream."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number
        self.attention_norm = nn.RMSNorm(WIDTH)
        self.attention_in = nn.Linear(WIDTH, 3 * WIDTH, bias=False)
        self.attention_out = nn.Linear(WIDTH, WIDTH, bias=False)
        self.perceptron = nn.Sequential(
            nn.RMSNorm(WIDTH),
            nn.Linear(WIDTH, 4 * WIDTH, bias=False),
            nn.GELU(),
            nn.Linear(4 * WIDTH, WIDTH, bias=False),
        )

    def forward(self, stream: Tensor, turn: Tensor, memory: Memory) -> Tensor:
        stream = stream + self.attend(self.attention_norm(stream), turn, memory)
        return stream + self.perceptron(stream)

    def attend(self, stream: Tensor, turn: Tensor, memory: Memory) -> Tensor:
        batch, length, _ = stream.shape
        parts = self.attention_in(stream).view(batch, length, 3, HEADS, WIDTH // HEADS)
        queries_and_keys, values = parts.permute(2, 0, 3, 1, 4).split([2, 1])
        queries, keys = rotate(queries_and_keys, turn)
        keys, values = memory.extend(self.number, keys, values[0])
        seen = functional.scaled_dot_product_attention(
            queries, keys, values, attn_mask=None if length == 1 else sight(length, keys)
        )
        attended: Tensor = self.attention_out(seen.transpose(1, 2).reshape(batch, length, WIDTH))
        return attended


def sight(length: int, keys: Tensor) -> Tensor:
    """Which of the keys each of the last `length` characters sees, `(length, keys)` bool."""
    places = torch.arange(keys.shape[2], device=keys.device)
    distance = places[-length:, None] - places
    return (distance >= 0) & (distance < WINDOW)


def rotation(start: int, length: int, device: torch.device) -> Tensor:
    """Cosines and sines of these places' angles, `(2, length, width of a head / 2)` (RoPE, arXiv:2104.09864)."""
    frequencies = 1000.0 ** -torch.linspace(0, 1, WIDTH // HEADS // 2, device=device)
    angles = torch.arange(start, start + length, device=device)[:, None] * frequencies
    return torch.stack([angles.cos(), angles.sin()])


def rotate(vectors: Tensor, turn: Tensor) -> Tensor:
    """Turn each pair of numbers by its place's angle, so that products of vectors tell their distance."""
    one, other = vectors.chunk(2, dim=-1)
    cosines, sines = turn
    return torch.cat([one * cosines - other * sines, one * sines + other * cosines], dim=-1)
