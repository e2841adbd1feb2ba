"""A predictor: predictord makes an HTTP service of the class below.

    predictord serve predictor.py
    curl localhost:8000 -H 'Content-Type: application/json' -d '{"text": "a great film and a good book"}'

Save this file while it is served, and the next request runs the new code.
"""

from dataclasses import dataclass
from typing import Any


@dataclass
class Review:
    """What a request has to hold; any other is answered with 422 and the fields that are wrong."""

    text: str


class PythonPredictor:
    """Found by its name. No base class and no import of predictord is needed."""

    def __init__(self, config: dict[str, Any]) -> None:
        # Runs once in each worker process, one for each GPU: load the model here. "cuda" is the worker's own GPU.
        # `config` is what `predictord serve --config bonus=1` gives, or the [config] table of predictord.toml.
        self.scores = {"great": 2, "good": 1, "dull": -1, "bad": -2}
        self.bonus = config.get("bonus", 0)

    def predict(self, payload: Review) -> dict[str, Any]:
        # Runs for each request. It is given what it names: `payload`, `query_params`, `headers`, `request`.
        # A payload without an annotation is what the Content-Type says: parsed JSON, a form, text or bytes.
        score = self.bonus + sum(self.scores.get(word, 0) for word in payload.text.lower().split())
        label = "positive" if score > 0 else "negative"
        # Return what JSON can carry (numpy arrays and torch tensors too), `str` for text, `bytes` for an image,
        # or any starlette Response. With `yield` instead of `return` the answer is a stream.
        return {"label": label, "score": score}
