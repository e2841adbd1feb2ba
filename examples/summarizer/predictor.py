"""Answers a text with its summary, from the pipeline's default model."""

import torch
from transformers import pipeline


class PythonPredictor:
    def __init__(self, config):
        self.summarize = pipeline(task="summarization", device=0 if torch.cuda.is_available() else -1)

    def predict(self, payload):
        summary = self.summarize(payload["text"])
        return summary[0]["summary_text"]
