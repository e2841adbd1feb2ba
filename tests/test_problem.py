import json

from predictord.problem import Code, Problem


def test_event_of_a_stream_that_fails() -> None:
    problem = Problem(Code.PREDICTOR_ERROR, "KeyError: 'a\nb'", traceback="secret")
    event, _, data = problem.event("id-1").partition(b"\ndata: ")
    assert event == b"event: error"
    assert data.endswith(b"}\n\n")
    document = json.loads(data)
    assert (document["code"], document["detail"]) == ("predictor_error", problem.detail)
    assert document["request_id"] == "id-1"
    assert "traceback" not in document


def test_traceback_only_with_debug() -> None:
    problem = Problem(Code.PREDICTOR_ERROR, "KeyError: 'a'", traceback="line 1")
    assert json.loads(problem.body("id", debug=True))["traceback"] == "line 1"
    assert "traceback" not in json.loads(problem.body("id"))
