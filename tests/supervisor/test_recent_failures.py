from typing import cast

from predictord.problem import Code, Problem
from predictord.supervisor.call import Call, Client
from predictord.supervisor.recent_failures import RecentFailures
from predictord.wire import RequestHead

HEAD = RequestHead(None, "POST", "/", b"", "1.1", None, [])


def call(id: str) -> Call:
    return Call(id.encode(), HEAD, [], 0, cast(Client, None), 0.0)


def test_failures_that_differ_in_their_values_do_not_push_others_out() -> None:
    failures = RecentFailures(debug=True)
    failures.record(Problem(Code.PREDICT_TIMEOUT, "predict took longer than 2 s"), call("slow"))
    for number in range(30):
        traceback = f"Traceback …\n  File predictor.py, line 3\nKeyError: 'user-{number}'\n"
        failures.record(Problem(Code.PREDICTOR_ERROR, f"KeyError: 'user-{number}'", traceback), call(f"r{number}"))
    latest, slow = failures.documents()
    assert (latest["detail"], latest["count"], latest["request_id"]) == ("KeyError: 'user-29'", 30, "r29")
    assert (slow["code"], slow["count"]) == ("predict_timeout", 1)
