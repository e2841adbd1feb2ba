"""Two models behind one route: `?model=sentiment-analysis` or `?model=summarization` chooses."""

import torch
from starlette.responses import JSONResponse
from transformers import pipeline


class PythonPredictor:
    def __init__(self, config):
        device = 0 if torch.cuda.is_available() else -1
        self.sentiment = pipeline(task="sentiment-analysis", device=device)
        self.summarizer = pipeline(task="summarization", device=device)

    def predict(self, query_params, payload):
        model = query_params.get("model")
        if model == "sentiment-analysis":
            return self.sentiment(payload["text"])[0]
        if model == "summarization":
            summary = self.summarizer(payload["text"])
            return summary[0]["summary_text"]
        return JSONResponse({"error": f"unknown model: {model}"}, status_code=400)
