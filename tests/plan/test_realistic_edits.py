"""Edits that authors make all day to the examples: most are put into the living worker, each refusal says why."""
# ruff: noqa: E501 (a table has one edit a line)

from pathlib import Path

import pytest

from predictord.generation import Generation
from predictord.plan.model import Kind, Plan
from predictord.plan.plan import plan
from predictord.project import read_project
from tests.plan.generations import edited

EXAMPLES = Path(__file__).parents[2] / "examples"
SWAP, NONE = Kind.SWAP, Kind.NONE

# The example's folder, its file, the edit, and the plan; or what a refusal has to name.
EDITS: list[tuple[str, str, list[tuple[str, str]], str]] = [
    ("digits", "predictor", [("MOST_INK = 16", "MOST_INK = 15")], SWAP),
    ("digits", "predictor", [("422, str(error)", "415, str(error)")], SWAP),
    ("digits", "predictor", [('"digit": probabilities.argmax()', '"digit": probabilities.argmax(), "sure": probabilities.max()')], SWAP),
    ("digits", "predictor", [("probabilities = self.network.probabilities(ink[None, None])[0]", "probabilities = self.network.probabilities(ink[None, None])[0].round(decimals=3)")], SWAP),
    ("digits", "predictor", [("def ink_of_pixels", "def least(ink):\n    return ink.min()\n\n\ndef ink_of_pixels"), ("return ink / MOST_INK", "return (ink - least(ink)) / MOST_INK")], SWAP),
    ("digits", "predictor", [("        ink = torch.from_numpy", "        print('payload', type(payload))\n        ink = torch.from_numpy")], SWAP),
    ("digits", "predictor", [("from pathlib import Path", "import base64\nfrom pathlib import Path"), ("if isinstance(payload, bytes):", 'if isinstance(payload, str):\n        return ink_of_picture(base64.b64decode(payload))\n    if isinstance(payload, bytes):')], SWAP),
    ("digits", "predictor", [("from pathlib import Path", "import logging\nfrom pathlib import Path"), ("        return {", "        logging.info('read %s', probabilities)\n        return {")], SWAP),
    ("digits", "predictor", [("def predict(self, payload)", "def predict(self, payload, query_params)"), ('return {"digit"', 'if "short" in query_params:\n            return str(int(probabilities.argmax()))\n        return {"digit"')], SWAP),
    ("digits", "predictor", [('"""Ink from 0 to 1, `(8, 8)` float32, of whichever kind of payload came."""', '"""Ink of the payload."""')], SWAP),
    ("digits", "predictor", [("# text, or rows", "# words, or rows")], NONE),
    ("digits", "predictor", [("except (TypeError, ValueError)", "except (TypeError, ValueError, OverflowError)")], SWAP),
    ("digits", "predictor", [("ink_of_pixels", "ink_of_numbers"), ("def ink_of_pixels", "def ink_of_numbers")], SWAP),
    ("digits", "predictor", [("weights.safetensors", "better.safetensors")], "WEIGHTS = "),
    ("digits", "predictor", [(".eval()", ".eval().half()")], "__init__"),
    ("digits", "picture", [("_LEAST_CONTRAST = 16", "_LEAST_CONTRAST = 24")], SWAP),
    ("digits", "picture", [("_INK_LEVEL = 0.3", "_INK_LEVEL = 0.25")], SWAP),
    ("digits", "picture", [("_LARGEST_SIDE = 256", "_LARGEST_SIDE = 512")], SWAP),
    ("digits", "picture", [("SIDE = 8\n", "SIDE = 16\n")], SWAP),
    ("digits", "picture", [("np.median(border)", "np.mean(border)")], SWAP),
    ("digits", "picture", [('("white", "black")', '("white", "grey", "black")')], SWAP),
    ("digits", "picture", [("Image.Resampling.BOX", "Image.Resampling.BILINEAR")], SWAP),
    ("digits", "picture", [("def _shrink", "def _smooth(square):\n    return square * 0.9\n\n\ndef _shrink"), ("return np.array(Image", "square = _smooth(square)\n    return np.array(Image")], SWAP),
    ("digits", "picture", [("the picture is blank", "there is nothing on the picture")], SWAP),
    ("digits", "picture", [("def _ink(grey: NDArray[np.float32])", "def _ink(grey: NDArray[np.float32], level: float = 0.5)"), ("np.abs(grey - np.median(border))", "np.abs(grey - np.median(border)) * level")], SWAP),
    ("digits", "network", [("softmax(dim=1)", "softmax(dim=-1)")], "nn.Module"),
    ("digits", "network", [("nn.Conv2d(1, 16", "nn.Conv2d(1, 24")], "nn.Module"),
    ("embeddings", "predictor", [("normalize_embeddings=True", "normalize_embeddings=False")], SWAP),
    ("embeddings", "predictor", [('{"embedding": vector}', '{"embedding": vector, "size": len(vector)}')], SWAP),
    ("embeddings", "predictor", [("[ask.text for ask", "[ask.text.strip().lower() for ask")], SWAP),
    ("embeddings", "predictor", [("        vectors =", "        print(len(payload), 'texts')\n        vectors =")], SWAP),
    ("embeddings", "predictor", [("max_batch_size = 32", "max_batch_size = 32\n    prefix = 'query: '"), ("[ask.text for", "[self.prefix + ask.text for")], SWAP),
    ("embeddings", "predictor", [("class PythonPredictor", "def shortened(text, most=512):\n    return text[:most]\n\n\nclass PythonPredictor"), ("[ask.text for", "[shortened(ask.text) for")], SWAP),
    ("embeddings", "predictor", [("import torch\n", "import time\n\nimport torch\n"), ("        vectors =", "        started = time.perf_counter()\n        vectors ="), ("        return [", "        print(time.perf_counter() - started)\n        return [")], SWAP),
    ("embeddings", "predictor", [("max_batch_size = 32", "max_batch_size = 64")], "max_batch_size"),
    ("embeddings", "predictor", [("    text: str", "    text: str\n    language: str = 'en'")], "Ask"),
    ("embeddings", "predictor", [("import torch\n", "import numpy as np\nimport torch\n")], "import numpy as np"),
    ("embeddings", "predictor", [('device = "cuda"', 'device = "cuda:0"')], "__init__"),
    ("summarizer", "predictor", [('self.summarize(payload["text"])', 'self.summarize(payload["text"], max_length=60)')], SWAP),
    ("summarizer", "predictor", [('return summary[0]["summary_text"]', 'return {"summary": summary[0]["summary_text"].strip()}')], SWAP),
    ("summarizer", "predictor", [("class PythonPredictor:", 'PROMPT = "Summarize: "\n\n\nclass PythonPredictor:'), ('self.summarize(payload', 'self.summarize(PROMPT + payload')], SWAP),
    ("summarizer", "predictor", [("        summary =", '        if not payload["text"]:\n            return ""\n        summary =')], SWAP),
    ("summarizer", "predictor", [("    def predict", "    def clean(self, text):\n        return ' '.join(text.split())\n\n    def predict"), ('(payload["text"])', '(self.clean(payload["text"]))')], SWAP),
    ("summarizer", "predictor", [("import torch\n", "import json\n\nimport torch\n"), ('return summary[0]["summary_text"]', "return json.dumps(summary)")], SWAP),
    ("summarizer", "predictor", [("        summary =", "        self.count = getattr(self, 'count', 0) + 1\n        summary =")], "self.count"),
    ("summarizer", "predictor", [('task="summarization"', 'task="summarization", model="t5-small"')], "__init__"),
    ("summarizer", "predictor", [("def predict(self, payload):", "def predict(self, payload, headers):"), ('return summary[0]["summary_text"]', 'yield summary[0]["summary_text"]')], SWAP),
    ("summarizer", "predictor", [("    def predict", "    def post_predict(self, response):\n        print(response)\n\n    def predict")], SWAP),
    ("multi_model", "predictor", [('"sentiment-analysis":\n            return', '"sentiment":\n            return')], SWAP),
    ("multi_model", "predictor", [("status_code=400", "status_code=404")], SWAP),
    ("multi_model", "predictor", [('query_params.get("model")', 'query_params.get("model", "summarization")')], SWAP),
    ("multi_model", "predictor", [("        model =", "        text = payload['text'][:1000]\n        model ="), ('self.sentiment(payload["text"])', "self.sentiment(text)")], SWAP),
    ("multi_model", "predictor", [('return self.sentiment(payload["text"])[0]', 'found = self.sentiment(payload["text"])\n            found[0]["score"] = round(found[0]["score"], 3)\n            return found[0]')], SWAP),
    ("multi_model", "predictor", [("class PythonPredictor:", "MODELS = ['sentiment-analysis', 'summarization']\n\n\nclass PythonPredictor:"), ('f"unknown model: {model}"', 'f"unknown model: {model}; one of {MODELS}"')], SWAP),
    ("multi_model", "predictor", [("import torch\n", "import logging\n\nimport torch\n"), ("class PythonPredictor:", "log = logging.getLogger(__name__)\n\n\nclass PythonPredictor:"), ("        model =", "        log.info('asked')\n        model =")], "log = "),
    ("multi_model", "predictor", [("self.sentiment = ", "self.mood = "), ("self.sentiment(", "self.mood(")], "__init__"),
]  # fmt: skip


def planned(example: str, file: str, edits: list[tuple[str, str]]) -> Plan:
    predictor = str(EXAMPLES / example / "predictor.py")
    files = read_project(predictor)
    path = str(EXAMPLES / example / f"{file}.py")
    old = Generation(1, predictor, None, files, {}, {})
    text = edited(files[path].decode(), *edits)
    return plan(old, Generation(2, predictor, None, {**files, path: text.encode()}, {}, {}))


@pytest.mark.parametrize(("example", "file", "edits", "expected"), EDITS)
def test_an_edit_of_an_example(example: str, file: str, edits: list[tuple[str, str]], expected: str) -> None:
    found = planned(example, file, edits)
    if isinstance(expected, Kind):
        assert found.kind is expected, found.reason
    else:
        assert found.kind is Kind.REPLACE
        assert expected in found.reason


def test_most_edits_keep_the_worker() -> None:
    kinds = [planned(example, file, edits).kind for example, file, edits, _ in EDITS]
    assert len(kinds) >= 40
    assert kinds.count(Kind.SWAP) / len(kinds) >= 0.6
