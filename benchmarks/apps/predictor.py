"""What predictord serves in each kind of benchmark: a class of the kind's name."""

import asyncio
import time


class Echo:
    def predict(self, payload):
        return {"n": len(payload["text"])}


class Sleep:
    def predict(self, payload):
        time.sleep(0.010)
        return {"n": len(payload["text"])}


class Batch:
    max_batch_size = 16

    def predict(self, payload):
        time.sleep(0.010)
        return [{"n": len(ask["text"])} for ask in payload]


class Async:
    async def predict(self, payload):
        await asyncio.sleep(0.010)
        return {"n": len(payload["text"])}


class Stream:
    def predict(self, payload):
        for _ in range(1000):
            yield "token "


class Raw:
    def predict(self, payload):
        return payload


class Versioned:
    def __init__(self):
        self.loaded = 0

    def predict(self, payload):
        return {"n": len(payload["text"]), "loaded": self.loaded, "predicted": 0}
