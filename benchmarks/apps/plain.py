"""The server that one writes by hand: starlette on uvicorn, and the predictions on a pool of one thread.

One at a time, since the model stands for one that fills a device. It has no supervision, no queue limit, no
reload and no metrics: what those cost is what the comparison shows.
"""

import asyncio
import contextlib
import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import orjson
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

BATCH_SIZE = 16
BATCH_WAIT_S = 0.005

Payload = dict[str, Any]

pool = ThreadPoolExecutor(max_workers=1)
waiting: asyncio.Queue[tuple[Payload, asyncio.Future[Payload]]] = asyncio.Queue()
tasks: set[asyncio.Task[None]] = set()


def echo(payload: Payload) -> Payload:
    return {"n": len(payload["text"])}


def sleep(payload: Payload) -> Payload:
    time.sleep(0.010)
    return echo(payload)


def batch(payloads: list[Payload]) -> list[Payload]:
    time.sleep(0.010)
    return [echo(payload) for payload in payloads]


def tokens() -> Iterator[str]:
    for _ in range(1000):
        yield "token "


async def answer_echo(request: Request) -> Response:
    return await in_pool(echo, request)


async def answer_sleep(request: Request) -> Response:
    return await in_pool(sleep, request)


async def in_pool(predict: Any, request: Request) -> Response:
    payload = orjson.loads(await request.body())
    return as_json(await asyncio.get_running_loop().run_in_executor(pool, predict, payload))


async def answer_async(request: Request) -> Response:
    payload = orjson.loads(await request.body())
    await asyncio.sleep(0.010)
    return as_json(echo(payload))


async def answer_stream(request: Request) -> Response:
    await request.body()
    return StreamingResponse(tokens(), media_type="text/plain")


async def answer_raw(request: Request) -> Response:
    return Response(await request.body(), media_type="application/octet-stream")


async def answer_batch(request: Request) -> Response:
    payload = orjson.loads(await request.body())
    if not tasks:
        tasks.add(asyncio.create_task(run_batches()))
    future: asyncio.Future[Payload] = asyncio.get_running_loop().create_future()
    waiting.put_nowait((payload, future))
    return as_json(await future)


async def run_batches() -> None:
    """Answer up to `BATCH_SIZE` together, or what has come `BATCH_WAIT_S` after the first."""
    loop = asyncio.get_running_loop()
    while True:
        together = [await waiting.get()]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(BATCH_WAIT_S):
                while len(together) < BATCH_SIZE:
                    together.append(await waiting.get())
        answers = await loop.run_in_executor(pool, batch, [payload for payload, _ in together])
        for (_, future), answer in zip(together, answers, strict=True):
            if not future.cancelled():
                future.set_result(answer)


def as_json(prediction: Payload) -> Response:
    return Response(orjson.dumps(prediction), media_type="application/json")


ANSWERS = {
    "Echo": answer_echo,
    "Sleep": answer_sleep,
    "Batch": answer_batch,
    "Async": answer_async,
    "Stream": answer_stream,
    "Raw": answer_raw,
}

app = Starlette(routes=[Route("/predict", ANSWERS[os.environ["BENCH_APP"]], methods=["POST"])])

if __name__ == "__main__":
    uvicorn.run(
        "plain:app",
        app_dir=os.path.dirname(os.path.abspath(__file__)),
        host="127.0.0.1",
        port=int(sys.argv[1]),
        workers=int(sys.argv[2]),
        loop="uvloop",
        http="httptools",
        access_log=False,
        log_level="warning",
    )
