"""`/openapi.json` says of each predictor what its annotations and docstrings say, and no more."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from tests.contract.openapi import request_schema
from tests.daemon import Daemon, eventually

TYPED = """
    from pydantic import BaseModel, ConfigDict, computed_field


    class Size(BaseModel):
        model_config = ConfigDict(strict=True)  # as the schema says: else a boolean passes for a number

        width: int
        height: int = 1

        @computed_field
        def area(self) -> int:
            return self.width * self.height


    class Ask(BaseModel):
        model_config = ConfigDict(strict=True)

        text: str
        sizes: list[Size] = []
        next: "Ask | None" = None


    class Answer(BaseModel):
        length: int
        largest: Size | None


    class Measure:
        \"\"\"Measures texts.

        Knows of sizes.
        \"\"\"

        def predict(self, payload: Ask, query_params) -> Answer:
            \"\"\"Measure one text.

            The largest size comes back too.
            \"\"\"
            largest = max(payload.sizes, key=lambda size: size.area, default=None)
            return Answer(length=len(payload.text), largest=largest)
"""

UNTYPED = """
    class Predictor:
        def predict(self, payload):
            return payload if isinstance(payload, (str, bytes)) else str(payload)
"""


def document(daemon: Daemon) -> dict[str, Any]:
    """The daemon's document, which is a valid one."""
    found: dict[str, Any] = daemon.client.get("/openapi.json").json()
    assert found["openapi"].startswith("3.1.")
    OpenAPIV31SpecValidator(found).validate()
    return found


def predict_operation(source: str, *flags: str) -> dict[str, Any]:
    """What a daemon that serves `source` says of `POST /predict`."""
    with Daemon(source, *flags) as daemon:
        operation: dict[str, Any] = document(daemon)["paths"]["/predict"]["post"]
        return operation


def contents(operation: dict[str, Any]) -> tuple[dict[str, Any] | None, dict[str, Any]]:
    """The request's and the answer's content of an operation."""
    body = operation["requestBody"]["content"] if "requestBody" in operation else None
    return body, operation["responses"]["200"]["content"]


@pytest.fixture(scope="module")
def typed() -> Iterator[Daemon]:
    with Daemon(TYPED) as daemon:
        yield daemon


@pytest.fixture(scope="module")
def untyped() -> Iterator[Daemon]:
    with Daemon(UNTYPED) as daemon:
        yield daemon


def test_class_and_docstrings_are_the_texts(typed: Daemon) -> None:
    found = document(typed)
    assert found["info"]["title"] == "Measure"
    assert found["info"]["description"] == "Measures texts.\n\nKnows of sizes."
    operation = found["paths"]["/predict"]["post"]
    assert operation["summary"] == "Measure one text."
    assert operation["description"] == "The largest size comes back too."


def test_definitions_of_both_sides_are_components(typed: Daemon) -> None:
    found = document(typed)
    schema = request_schema(found, "/predict")
    assert schema["properties"]["sizes"]["items"] == {"$ref": "#/components/schemas/Size"}
    schemas = found["components"]["schemas"]
    assert schemas["Ask"]["properties"]["next"]["anyOf"][0] == {"$ref": "#/components/schemas/Ask"}
    assert schemas["Size"]["required"] == ["width"]
    answer = found["paths"]["/predict"]["post"]["responses"]["200"]["content"]["application/json"]["schema"]
    assert answer["properties"]["length"] == {"title": "Length", "type": "integer"}
    # What comes out has more than what goes in, so that it is another type.
    assert answer["properties"]["largest"]["anyOf"][0] == {"$ref": "#/components/schemas/Size-Output"}
    assert "area" in schemas["Size-Output"]["properties"]
    assert "area" not in schemas["Size"]["properties"]


def test_problems_are_described_with_their_codes(typed: Daemon, untyped: Daemon) -> None:
    responses = document(typed)["paths"]["/predict"]["post"]["responses"]
    assert {"400", "413", "422", "500", "502", "503", "504"} <= responses.keys()
    assert "401" not in responses
    components = document(typed)["components"]
    assert "queue_full" in components["responses"]["Problem503"]["description"]
    assert "retry-after" in components["responses"]["Problem503"]["headers"]
    assert "validation_failed" in components["schemas"]["predictord.Problem"]["properties"]["code"]["enum"]
    assert "422" not in document(untyped)["paths"]["/predict"]["post"]["responses"], "nothing is validated"


def test_all_routes_are_there(typed: Daemon) -> None:
    found = document(typed)
    links = typed.client.get("/").json()["links"].values()
    assert {link.removeprefix("POST ") for link in links} | {"/"} == found["paths"].keys()
    assert found["paths"]["/"].keys() == {"get", "post"}


def test_untyped_payload_is_open(untyped: Daemon) -> None:
    found = document(untyped)
    assert "description" not in found["info"]
    operation = found["paths"]["/predict"]["post"]
    assert operation["summary"] == "Run one prediction"
    body, answer = contents(operation)
    assert body is not None
    assert body["application/json"] == {"schema": {}}
    assert {"text/plain", "multipart/form-data", "application/octet-stream"} <= body.keys()
    assert answer == {"*/*": {"schema": {}}}
    assert not operation["requestBody"]["required"]
    assert "parameters" not in operation, "it does not look at the query"


SHAPES = {
    "bytes in, text out": ("payload: bytes) -> str", {"application/octet-stream"}, {"text/plain"}),
    "text in, bytes out": ("payload: str) -> bytes", {"text/plain"}, {"application/octet-stream"}),
    "nothing in": ("headers) -> dict", None, {"application/json"}),
    "generic out": ("payload: bytes) -> dict[str, list[float]]", {"application/octet-stream"}, {"application/json"}),
    "text or an object out": ("payload: bytes) -> str | dict", {"application/octet-stream"}, {"*/*"}),
}


@pytest.mark.parametrize("shape", SHAPES)
def test_forms_follow_the_annotations(shape: str) -> None:
    signature, taken, given = SHAPES[shape]
    body, answer = contents(
        predict_operation(f"""
            class Predictor:
                def predict(self, {signature}:
                    return None
        """)
    )
    assert (None if body is None else set(body)) == taken
    assert set(answer) == given


def test_stream_is_lines_or_events() -> None:
    _, answer = contents(
        predict_operation("""
            from collections.abc import Iterator

            class Predictor:
                def predict(self, payload) -> Iterator[dict[str, int]]:
                    yield {"a": 1}
        """)
    )
    assert set(answer) == {"application/x-ndjson", "text/event-stream"}
    schema = answer["application/x-ndjson"]["schema"]["contentSchema"]
    assert schema == {"type": "object", "additionalProperties": {"type": "integer"}}


def test_batching_describes_one_item() -> None:
    body, answer = contents(
        predict_operation(
            """
            from pydantic import BaseModel

            class Ask(BaseModel):
                n: int

            class Predictor:
                def predict(self, payload: list[Ask]) -> list[dict[str, int]]:
                    return [{"n": ask.n} for ask in payload]
            """,
            "--max-batch-size",
            "4",
        )
    )
    assert body is not None
    assert body["application/json"]["schema"]["title"] == "Ask"
    assert answer["application/json"]["schema"]["additionalProperties"] == {"type": "integer"}


@pytest.mark.parametrize("which", ["typed", "untyped"])
def test_daemon_does_as_it_says(which: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """Schemathesis makes requests that fit the document, and some that do not, and judges the answers."""
    daemon: Daemon = request.getfixturevalue(which)
    command = [sys.executable, "-m", "schemathesis.cli", "run", f"{daemon.url}/openapi.json", "--no-color"]
    bounds = ["--max-examples", "15", "--seed", "1", "--exclude-path", "/events"]  # which never ends
    run = subprocess.run([*command, *bounds], cwd=tmp_path, capture_output=True, text=True, timeout=100)
    assert run.returncode == 0, run.stdout + run.stderr
    assert "7 selected" in run.stdout
    requests = daemon.status()["requests"]
    assert requests["total"] > 50
    assert requests["failed"] == 0


def test_token_is_a_security_scheme() -> None:
    with Daemon(UNTYPED, environment={"PREDICTORD_TOKEN": "t" * 32}, token="t" * 32) as daemon:
        found = document(daemon)
    assert found["security"] == [{"token": []}]
    assert found["components"]["securitySchemes"]["token"]["scheme"] == "bearer"
    assert found["paths"]["/healthz"]["get"]["security"] == []
    assert "401" in found["paths"]["/predict"]["post"]["responses"]


def test_swap_and_replace_bring_the_new_texts() -> None:
    with Daemon(UNTYPED) as daemon:
        daemon.write(UNTYPED.replace("payload):", 'payload) -> str:\n            "Say it back."'))
        eventually(lambda: daemon.status()["generation"] == 2)
        found = document(daemon)
    assert found["info"]["version"] == "2"
    operation = found["paths"]["/predict"]["post"]
    assert operation["summary"] == "Say it back."
    assert set(contents(operation)[1]) == {"text/plain"}


def test_before_any_worker_it_is_open() -> None:
    with Daemon("import nothing_of_this_name", wait_ready=False) as daemon:
        eventually(lambda: daemon.status()["state"] == "failed")
        assert contents(document(daemon)["paths"]["/predict"]["post"])[1] == {"*/*": {"schema": {}}}
