"""LitServe, set up as its documentation says is fastest; run by a Python that has it (`--litserve-python`)."""

import asyncio
import os
import sys
import time
from typing import Any

import litserve


class Echo(litserve.LitAPI):
    def setup(self, device: str) -> None:
        pass

    def decode_request(self, request: dict[str, Any]) -> Any:
        return request["text"]

    def predict(self, text: Any) -> Any:
        return len(text)

    def encode_response(self, output: Any) -> Any:
        return {"n": output}


class Sleep(Echo):
    def predict(self, text: Any) -> Any:
        time.sleep(0.010)
        return len(text)


class Batch(Echo):
    def batch(self, inputs: Any) -> Any:
        return list(inputs)

    def predict(self, texts: Any) -> Any:
        time.sleep(0.010)
        return [len(text) for text in texts]

    def unbatch(self, output: Any) -> Any:
        return list(output)


class Async(Echo):
    async def decode_request(self, request: dict[str, Any]) -> Any:
        return request["text"]

    async def predict(self, text: Any) -> Any:
        await asyncio.sleep(0.010)
        return len(text)

    async def encode_response(self, output: Any) -> Any:
        return {"n": output}


class Stream(Echo):
    def predict(self, text: Any) -> Any:
        for _ in range(1000):
            yield "token "

    def encode_response(self, output: Any) -> Any:  # FastAPI reads the annotation
        yield from output


def main() -> None:
    app, port, workers = os.environ["BENCH_APP"], int(sys.argv[1]), int(sys.argv[2])
    options: dict[str, dict[str, Any]] = {
        "Batch": {"max_batch_size": 16, "batch_timeout": 0.005},
        "Async": {"enable_async": True},
        "Stream": {"stream": True},
    }
    apis = {"Echo": Echo, "Sleep": Sleep, "Batch": Batch, "Async": Async, "Stream": Stream}
    server = litserve.LitServer(
        apis[app](**options.get(app, {})),
        accelerator="cpu",
        workers_per_device=workers,
        fast_queue=True,
        disable_openapi_url=True,
    )
    server.run(
        host="127.0.0.1",
        port=port,
        log_level="warning",
        generate_client_file=False,
        access_log=False,
        loop="uvloop",
        http="httptools",
    )


if __name__ == "__main__":
    main()
