"""Turns a picture of one digit into what the network was trained on: 8x8 pixels of ink from 0 to 1.

The data set's digits were cut to their ink before they were scaled down
(https://archive.ics.uci.edu/dataset/80), so a picture goes the same way: find the ink,
cut it out, make it square, shrink it.
"""

from io import BytesIO

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

SIDE = 8
_LARGEST_SIDE = 256
"""Larger pictures are shrunk first: all the detail that 8 pixels can show, at a bounded cost."""
_LEAST_CONTRAST = 16
"""Of 255: a picture with less between paper and ink is blank."""
_INK_LEVEL = 0.3
"""What is weaker than this, of the strongest ink, does not count when the edges are sought: shadows, dust."""


class PictureError(ValueError):
    """There is no digit to be found; the text says why."""


def read_picture(data: bytes) -> NDArray[np.float32]:
    """Ink from 0 to 1, `(8, 8)` float32, of a picture file in any format, size and colours that pillow reads."""
    picture = _open(data)
    # A transparent background is paper of any colour: if white makes the ink vanish, black shows it.
    for paper in ("white", "black"):
        ink = _ink(_on_paper(picture, paper))
        if ink.max() >= _LEAST_CONTRAST:
            return _shrink(_cut_out(ink / ink.max()))
    raise PictureError("the picture is blank")


def _open(data: bytes) -> Image.Image:
    try:
        with Image.open(BytesIO(data)) as opened:
            return _upright(opened)
    except (OSError, SyntaxError, Image.DecompressionBombError) as error:  # a broken PNG is a SyntaxError
        raise PictureError("not a picture that can be read; PNG and JPEG are") from error


def _upright(opened: Image.Image) -> Image.Image:
    picture = ImageOps.exif_transpose(opened)
    if picture.mode.startswith("I"):  # 16 bits of grey, which convert() would clip rather than scale
        picture = Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8))
    picture = picture.convert("RGBA")
    picture.thumbnail((_LARGEST_SIDE, _LARGEST_SIDE))
    return picture


def _on_paper(picture: Image.Image, colour: str) -> NDArray[np.float32]:
    sheet = Image.new("RGBA", picture.size, colour)
    sheet.alpha_composite(picture)
    return np.asarray(sheet.convert("L"), dtype=np.float32)


def _ink(grey: NDArray[np.float32]) -> NDArray[np.float32]:
    """How far each pixel is from the paper, whose grey is taken from the border: dark on light or light on dark."""
    border = np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])
    return np.abs(grey - np.median(border))


def _cut_out(ink: NDArray[np.float32]) -> NDArray[np.float32]:
    """The smallest square around the ink, with the ink in its middle."""
    rows, columns = np.nonzero(ink > _INK_LEVEL)
    cut = ink[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
    side = max(cut.shape)
    above, left = (side - cut.shape[0]) // 2, (side - cut.shape[1]) // 2
    square = np.zeros((side, side), dtype=np.float32)
    square[above : above + cut.shape[0], left : left + cut.shape[1]] = cut
    return square


def _shrink(square: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.array(Image.fromarray(square).resize((SIDE, SIDE), Image.Resampling.BOX))
