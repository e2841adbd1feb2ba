"""What a sync predictor may do to its process without harm to the thread that serves it."""

from tests.daemon import Daemon

TIMEOUTS = """
    import socket

    socket.setdefaulttimeout(0.2)

    class PythonPredictor:
        def predict(self, payload):
            yield from payload
"""


def test_default_timeout_of_sockets_is_the_predictors_alone() -> None:
    with Daemon(TIMEOUTS) as daemon:
        assert daemon.predict(["a", "b", "c"]).text == "abc"
