"""`/metrics` is what Prometheus expects, and counts what has happened."""

import re
from collections.abc import Iterator

import pytest

from predictord import __version__
from tests.daemon import Daemon, eventually, in_background
from tests.prometheus import Scrape, read_openmetrics

SOURCE = """
    import time
    from starlette.responses import JSONResponse

    class Predictor:
        def predict(self, payload):
            if payload == "fail":
                raise ValueError
            if payload == "teapot":
                return JSONResponse({}, 418)
            if isinstance(payload, list):
                return (item for item in payload)
            time.sleep(payload)
            return payload
"""


@pytest.fixture(scope="module")
def daemon() -> Iterator[Daemon]:
    with Daemon(SOURCE, "--workers-per-device", "2") as daemon:
        yield daemon


def test_every_family_has_help_and_a_known_type(daemon: Daemon) -> None:
    scrape = Scrape(daemon)
    assert scrape.answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert len(scrape.families) > 25
    for family in scrape.families.values():
        assert family.documentation, family.name
        assert family.type in ("counter", "gauge", "histogram", "summary"), family.name
    lines = scrape.answer.text.splitlines()
    names = [line.split()[2] for line in lines if line.startswith("# TYPE")]
    assert len(names) == len(set(names))
    assert [line.split()[2] for line in lines if line.startswith("# HELP")] == names


def test_names_keep_to_the_conventions(daemon: Daemon) -> None:
    for family in Scrape(daemon).families.values():
        assert re.fullmatch(r"(predictord|process)_[a-z_]+", family.name)
        assert not re.search(r"_(ms|milliseconds|kb|mb|mib|percent)(_|$)", family.name)
        for sample in family.samples:
            assert (family.type == "counter") == sample.name.endswith("_total"), sample.name
        if "duration" in family.name:
            assert family.name.endswith("_seconds")
        if "memory" in family.name:
            assert family.name.endswith("_bytes")


def test_head_and_openmetrics(daemon: Daemon) -> None:
    head = daemon.client.head("/metrics")
    assert head.status_code == 200
    assert not head.content
    accept = "application/openmetrics-text; version=1.0.0; charset=utf-8"
    answer = daemon.client.get("/metrics", headers={"accept": accept})
    assert answer.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    names = {family.name for family in read_openmetrics(answer.text)}
    assert names == {name.removesuffix("_info") for name in Scrape(daemon).families}


@pytest.mark.parametrize("accept", ["", "*/*", "application/json", "text/plain;version=none", "text/plain;version=9"])
def test_any_other_accept_gets_the_text_format(daemon: Daemon, accept: str) -> None:
    answer = daemon.client.get("/metrics", headers={"accept": accept})
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")


def test_requests_are_counted_by_code_and_problem(daemon: Daemon) -> None:
    before = Scrape(daemon)
    for payload in (0, 0, "teapot", "fail", [1, 2]):
        daemon.predict(payload)
    daemon.predict(content=b"{", headers={"content-type": "application/json"})
    after = Scrape(daemon)

    def more(name: str, **labels: str) -> float:
        return sum(after.samples(name, **labels)) - sum(before.samples(name, **labels))

    assert more("predictord_requests_total", code="200", problem="") == 3
    assert more("predictord_requests_total", code="418", problem="") == 1
    assert more("predictord_requests_total", code="500", problem="predictor_error") == 1
    assert more("predictord_requests_total", code="400", problem="invalid_payload") == 1
    assert more("predictord_worker_requests_total") == 6
    for name in ("request_duration_seconds", "queue_duration_seconds", "predict_duration_seconds"):
        assert more(f"predictord_{name}_count") == 6, name
        assert more(f"predictord_{name}_bucket", le="+Inf") == 6, name


def test_refusals_are_counted_apart(daemon: Daemon) -> None:
    before = sum(Scrape(daemon).samples("predictord_refusals_total", problem="host_not_allowed"))
    total = Scrape(daemon).value("predictord_requests_total") if daemon.predict(0) else 0
    daemon.client.post("/predict", json=0, headers={"host": "evil.example"})
    after = Scrape(daemon)
    assert after.value("predictord_refusals_total", problem="host_not_allowed") == before + 1
    assert after.value("predictord_requests_total") == total


def test_durations_are_in_seconds_and_in_the_right_buckets() -> None:
    with Daemon(SOURCE) as daemon:
        with in_background(*[lambda: daemon.predict(0.3)] * 2):
            pass
        scrape = Scrape(daemon)
    assert scrape.value("predictord_predict_duration_seconds_bucket", le="0.25") == 0
    assert scrape.value("predictord_predict_duration_seconds_bucket", le="2.5") == 2
    assert 0.6 <= scrape.value("predictord_predict_duration_seconds_sum") < 5
    assert scrape.value("predictord_queue_duration_seconds_bucket", le="0.05") == 1, "the second one waited"
    assert 0.1 <= scrape.value("predictord_queue_duration_seconds_sum") < 5
    assert scrape.value("predictord_request_duration_seconds_sum") >= 0.8
    for name in ("request", "queue", "predict"):
        bounds = list(scrape.samples(f"predictord_{name}_duration_seconds_bucket"))
        assert bounds == sorted(bounds)


def test_state_is_shown_while_requests_run_and_wait() -> None:
    with Daemon(SOURCE, "--max-queue", "5") as daemon:
        with in_background(*[lambda: daemon.predict(1)] * 3):
            eventually(lambda: Scrape(daemon).value("predictord_queue_depth") == 2)
            scrape = Scrape(daemon)
            assert scrape.value("predictord_requests_in_flight") == 1
            assert scrape.value("predictord_queue_limit") == 5
            assert scrape.value("predictord_workers", state="busy") == 1
            assert scrape.value("predictord_workers") == 1
        scrape = Scrape(daemon)
        assert scrape.value("predictord_state", state="ready") == scrape.value("predictord_state") == 1
        assert scrape.value("predictord_build_info", version=__version__) == 1
        assert scrape.value("predictord_worker_resident_memory_bytes", worker="0") > 1e6


def test_reloads_are_counted_by_kind() -> None:
    with Daemon(SOURCE) as daemon:
        assert Scrape(daemon).value("predictord_reloads_total") == 0
        daemon.write(SOURCE.replace("return payload\n", "return [payload]\n"))
        eventually(lambda: Scrape(daemon).value("predictord_reloads_total", kind="swap") == 1)
        daemon.write("def broken(:")
        eventually(lambda: Scrape(daemon).value("predictord_reloads_total", kind="failed") == 1)
        scrape = Scrape(daemon)
        assert scrape.value("predictord_reload_duration_seconds_count", kind="swap") == 1
        took = daemon.status()["generation"], scrape.value("predictord_reload_duration_seconds_sum", kind="swap")
        assert took[0] == scrape.value("predictord_generation") == 2
        assert 0 < took[1] < 30


def test_batches_are_counted_by_size() -> None:
    source = """
        import time

        class Predictor:
            def predict(self, payload):
                time.sleep(0.5)
                return payload
    """
    with Daemon(source, "--max-batch-size", "8") as daemon:
        with in_background(*[lambda: daemon.predict(1)] * 6):
            pass
        scrape = Scrape(daemon)
    assert scrape.value("predictord_batch_size_sum") == 6
    assert scrape.value("predictord_batch_size_count") < 6
    assert scrape.value("predictord_batch_size_bucket", le="8.0") == scrape.value("predictord_batch_size_count")
