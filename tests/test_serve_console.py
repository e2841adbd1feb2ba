"""What `serve` prints, line by line, as its reader sees it in a pipe."""

import json
import re
import signal
import sys
from typing import Any

from tests.daemon import Daemon, eventually, in_background, serve_to_exit
from tests.ledger import PRELUDE

MISBEHAVES = (
    PRELUDE
    + """
import os

class PythonPredictor:
    def predict(self, payload):
        if payload == "die":
            os._exit(7)
        if payload == "segv":
            import ctypes
            ctypes.string_at(0)
        if payload == "import":
            import nothing_like_it
        if payload == "wait":
            wait_for_file("gate")
        return {"text": "x"}[payload]
"""
)
BROKEN = "class PythonPredictor:\n    def __init__(self):\n        self.x =\n"


def lines_when_ready(daemon: Daemon) -> int:
    """How many lines it has printed once it has said that its worker is ready."""
    daemon.wait_for_line(r"worker 0 .*ready in")
    return len(daemon.log)


def told(daemon: Daemon, start: int = 0) -> list[str]:
    """The lines so far, without the time."""
    return [re.sub(r"^\d\d:\d\d:\d\d ", "", line) for line in daemon.log[start:]]


def test_a_start_says_what_is_served_where_and_what_it_took() -> None:
    with Daemon(MISBEHAVES, "--workers-per-device", "2") as daemon:
        eventually(lambda: daemon.log_text().count("ready in") == 2)
        first, second, *ready = told(daemon)
        assert first == f"serving {daemon.predictor} on {daemon.url}"
        assert second == "loading 2 workers on CPU"
        assert {re.sub(r"[\d.]+ s · \d+M", "T · M", line) for line in ready} == {
            "worker 0 (CPU) ready in T · M of memory",
            "worker 1 (CPU) ready in T · M of memory",
        }


def test_a_death_is_one_line_with_its_reason_and_what_it_cost() -> None:
    with Daemon(MISBEHAVES) as daemon:
        start = lines_when_ready(daemon)
        assert daemon.predict("die").status_code == 502
        daemon.wait_for_line("ready in", start=start)
        assert (
            told(daemon, start)[0]
            == "worker 0 (CPU) ended with exit code 7; 1 request got a 502; starts again in 0.25 s"
        )
        assert len(told(daemon, start)) == 2


def test_a_fault_shows_the_predictors_frames_alone() -> None:
    with Daemon(MISBEHAVES) as daemon:
        start = lines_when_ready(daemon)
        assert daemon.predict("segv").status_code == 502
        daemon.wait_for_line("ready in", start=start)
        shown = told(daemon, start)
        assert shown[0].startswith("worker 0 (CPU) was killed by SIGSEGV; 1 request got a 502")
        assert shown[1:3] == [
            "    Fatal Python error: Segmentation fault",
            "    Stack of the thread that it came from (most recent call last):",
        ]
        assert re.fullmatch(r'      File ".*/predictor\.py", line \d+, in predict', shown[3])
        assert shown[4] == "        ctypes.string_at(0)"
        assert not [line for line in shown if "predictord/worker" in line]


def test_a_missing_module_says_which_python_this_is() -> None:
    with Daemon(MISBEHAVES) as daemon:
        start = lines_when_ready(daemon)
        assert daemon.predict("import").status_code == 500
        advice = daemon.wait_for_line("predictord runs in .*", start=start)[0]
        assert f"runs in {sys.executable} (Python " in advice
        assert "has no nothing_like_it: install it there" in advice
        assert told(daemon, start)[0] == (
            "prediction failed in worker 0: ModuleNotFoundError: No module named 'nothing_like_it'"
        )


def test_failures_of_one_kind_are_one_line_and_a_count() -> None:
    with Daemon(MISBEHAVES) as daemon:
        start = lines_when_ready(daemon)
        for number in range(50):
            daemon.predict(f"key {number}")
        eventually(lambda: "more times" in daemon.log_text(), 20)
        shown = told(daemon, start)
        assert shown[0] == "prediction failed in worker 0: KeyError: 'key 0'"
        assert shown[-1] == "prediction failed 49 more times in 10 s: KeyError: 'key 0'"
        assert sum("KeyError" in line for line in shown) == 3  # the line, the traceback's last, the count


def test_a_count_that_was_not_told_yet_is_told_at_the_end() -> None:
    with Daemon(MISBEHAVES) as daemon:
        for number in range(3):
            daemon.predict(f"key {number}")
        assert daemon.stop() == 0
        daemon.wait_for_line(r"prediction failed 2 more times before the end: KeyError: 'key 0'")


def test_a_slow_prediction_is_told_while_it_goes_on() -> None:
    with Daemon(MISBEHAVES) as daemon, in_background(lambda: daemon.predict("wait").status_code):
        daemon.wait_for_line(r"worker 0 \(CPU\) has worked on one prediction for 1\d s; it is at", 30)
        daemon.wait_for_line(r'wait_for_file\("gate"\)', 2)
        daemon.open_gate("gate")


def test_a_stop_says_what_it_waits_for_and_how_not_to() -> None:
    with Daemon(MISBEHAVES, "--drain-timeout", "20s") as daemon, in_background(lambda: daemon.predict("wait")):
        eventually(lambda: daemon.status()["requests"]["in_flight"] == 1)
        daemon.signal(signal.SIGINT)
        line = "stopping: finishing 1 request, for 20 s at most; Ctrl-C again ends it at once"
        eventually(lambda: line in told(daemon))
        daemon.open_gate("gate")
        assert daemon.wait() == 130
        assert told(daemon)[-1] == "stopped"


def test_a_broken_file_is_told_once_and_what_to_do() -> None:
    with Daemon(BROKEN, "--workers-per-device", "3", wait_ready=False) as daemon:
        daemon.wait_for_line("no worker could load the predictor: requests get a 503 until you save one that loads")
        assert daemon.log_text().count("self.x =") == 1
        assert daemon.log_text().count("did not load for the same reason: SyntaxError") == 2
        daemon.write(MISBEHAVES)
        daemon.wait_for_line("replace: predictor.py changed")


def test_without_reload_a_broken_file_ends_it() -> None:
    code, log = serve_to_exit(BROKEN)
    assert code == 3
    assert "no worker could load the predictor: stopping (--no-reload)" in log


def test_json_lines_carry_the_same_events() -> None:
    with Daemon(MISBEHAVES, "--log-format", "json") as daemon:
        daemon.predict("nothing")
        daemon.predict("die")
        eventually(lambda: "worker_died" in daemon.log_text())
        events: dict[str, Any] = {}
        for line in list(daemon.log):
            entry = json.loads(line)
            events.setdefault(entry["event"], entry)
        assert events["serving"]["urls"][0] == daemon.url
        assert events["loading"]["workers"] == 1
        assert events["worker_ready"]["rss_bytes"] > 1 << 20
        assert events["prediction_failed"]["code"] == "predictor_error"
        assert events["worker_died"]["requests_lost"] == 1
