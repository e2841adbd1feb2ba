"""The digits example: every way to send a digit gives the same answer."""

import subprocess
import sys
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageOps

from tests.daemon import Daemon
from tests.examples import EXAMPLES, LOAD_TIME_S

pytestmark = pytest.mark.timeout(LOAD_TIME_S + 60)

SEVEN = EXAMPLES / "digits" / "seven.png"

ONE = [[0, 0, 0, 13, 14, 0, 0, 0] for _ in range(8)]


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    with Daemon(EXAMPLES / "digits" / "predictor.py", ready_within_s=LOAD_TIME_S) as daemon:
        yield daemon


def encode(picture: Image.Image, kind: str = "PNG") -> bytes:
    file = BytesIO()
    picture.save(file, kind)
    return file.getvalue()


def seven() -> Image.Image:
    return Image.open(BytesIO(SEVEN.read_bytes()))


def inverted() -> Image.Image:
    return ImageOps.invert(seven().convert("L"))


def cut_out(ink: str) -> Image.Image:
    """The seven in this colour on a transparent background."""
    picture = Image.new("RGBA", seven().size, (0, 0, 0, 0))
    picture.paste(ink, mask=inverted())
    return picture


def on_a_large_sheet() -> Image.Image:
    sheet = Image.new("RGB", (1200, 700), "ivory")
    sheet.paste(ImageOps.colorize(inverted(), "ivory", "navy"), (900, 60))
    return sheet


PICTURES: dict[str, Callable[[], bytes]] = {
    "dark on light": SEVEN.read_bytes,
    "light on dark": lambda: encode(inverted()),
    "small in the corner of a large colour JPEG": lambda: encode(on_a_large_sheet(), "JPEG"),
    "black on nothing": lambda: encode(cut_out("black")),
    "white on nothing": lambda: encode(cut_out("white")),
    "two colours": lambda: encode(seven().convert("1")),
    "16 bits of grey": lambda: encode(seven().convert("L").convert("I").point(lambda v: v * 257), "TIFF"),
    "8x8": lambda: encode(seven().crop((16, 16, 144, 144)).resize((8, 8))),
}


@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_is_read_whatever_its_size_and_colours(daemon: Daemon, name: str) -> None:
    answer = daemon.predict(content=PICTURES[name](), headers={"Content-Type": "image/png"})
    assert answer.status_code == 200
    assert answer.json()["digit"] == 7


def test_a_form_may_carry_the_picture(daemon: Daemon) -> None:
    with SEVEN.open("rb") as file:
        answer = daemon.predict(files={"image": ("seven.png", file, "image/png")})
    assert answer.json()["digit"] == 7


def test_json_may_carry_the_pixels(daemon: Daemon) -> None:
    prediction = daemon.predict({"pixels": ONE}).json()
    assert prediction["digit"] == 1
    assert len(prediction["probabilities"]) == 10
    assert sum(prediction["probabilities"]) == pytest.approx(1)
    assert max(prediction["probabilities"]) == prediction["probabilities"][1]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ({"content": b"no picture"}, "not a picture"),
        ({"content": SEVEN.read_bytes()[:300]}, "not a picture"),
        ({"content": encode(Image.new("L", (20, 20), 200))}, "blank"),
        ({"files": {"image": ("empty.png", b"")}}, "not a picture"),
        ({"data": {"image": "seven"}}, "send a picture"),
        ({"payload": {"pixels": ONE[1:]}}, "8 rows"),
        ({"payload": {"pixels": [[17] * 8] * 8}}, "8 rows"),
        ({"payload": {"pixels": "seven"}}, "8 rows"),
        ({"payload": [7]}, "send a picture"),
    ],
)
def test_what_shows_no_digit_is_refused_with_the_reason(daemon: Daemon, body: dict[str, Any], reason: str) -> None:
    answer = daemon.predict(**body)
    assert answer.status_code == 422
    assert reason in answer.text


def test_training_learns_and_gives_the_same_files_again(tmp_path: Path) -> None:
    written = []
    for folder in (tmp_path / "first", tmp_path / "second"):
        folder.mkdir()
        command = [sys.executable, str(EXAMPLES / "digits" / "train.py"), "--folder", str(folder)]
        printed = subprocess.run(command, check=True, capture_output=True, text=True, timeout=LOAD_TIME_S).stdout
        assert float(printed.partition("%")[0]) > 97
        written.append({file.name: file.read_bytes() for file in folder.iterdir()})
    assert written[0] == written[1]
    assert set(written[0]) == {"weights.safetensors", "seven.png"}
