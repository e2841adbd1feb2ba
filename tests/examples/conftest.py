"""A Hugging Face home that stands in for the hub."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.examples import LOAD_TIME_S


@pytest.fixture(scope="session")
def hugging_face(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment in which the pipelines' default models are tiny ones, and no network is asked."""
    home = tmp_path_factory.mktemp("hugging-face")
    program = Path(__file__).with_name("tiny_hub.py")
    subprocess.run([sys.executable, str(program), str(home)], check=True, timeout=LOAD_TIME_S)
    return {"HF_HOME": str(home), "HF_HUB_OFFLINE": "1"}
