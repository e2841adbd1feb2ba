"""Reads one handwritten digit: from a picture (a form's file, or the bytes themselves), or from 8x8 numbers in JSON."""

from pathlib import Path

import numpy as np
import torch
from network import DigitNetwork
from picture import SIDE, PictureError, read_picture
from safetensors.torch import load_file
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException

WEIGHTS = Path(__file__).with_name("weights.safetensors")
MOST_INK = 16
"""The data set counts ink from 0 to 16."""


class PythonPredictor:
    def __init__(self, config):
        self.device = "cuda" if torch.cuda.is_available() else "cpu"
        self.network = DigitNetwork().to(self.device).eval()
        self.network.load_state_dict(load_file(WEIGHTS, device=self.device))

    def predict(self, payload):
        ink = torch.from_numpy(ink_of(payload)).to(self.device)
        probabilities = self.network.probabilities(ink[None, None])[0]
        return {"digit": probabilities.argmax(), "probabilities": probabilities}


def ink_of(payload):
    """Ink from 0 to 1, `(8, 8)` float32, of whichever kind of payload came."""
    if isinstance(payload, bytes):
        return ink_of_picture(payload)
    if isinstance(payload, FormData):
        for value in payload.values():
            if isinstance(value, UploadFile):
                return ink_of_picture(value.file.read())
    if isinstance(payload, dict) and "pixels" in payload:
        return ink_of_pixels(payload["pixels"])
    raise HTTPException(422, 'send a picture, or JSON such as {"pixels": [[0, 5, 13, …], …]}')


def ink_of_picture(data):
    try:
        return read_picture(data)
    except PictureError as error:
        raise HTTPException(422, str(error)) from error


def ink_of_pixels(pixels):
    try:
        ink = np.array(pixels, dtype=np.float32)
    except (TypeError, ValueError):  # text, or rows of unequal length
        ink = np.empty(0, dtype=np.float32)
    if ink.shape != (SIDE, SIDE) or not ((ink >= 0) & (ink <= MOST_INK)).all():
        raise HTTPException(422, f"pixels must be {SIDE} rows of {SIDE} numbers from 0 (paper) to {MOST_INK} (ink)")
    return ink / MOST_INK
