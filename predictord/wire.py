"""What supervisor and worker say to each other, and the frames that carry it.

A frame is two lengths, a MessagePack header and the body's bytes as they are. The
header is one of the messages below; bodies never pass through the codec, so that a
large payload is neither scanned nor copied. Nothing here is ever pickled.
"""

import signal
import struct
from enum import StrEnum
from typing import Annotated, Any

import msgspec

from predictord.generation import Generation
from predictord.plan.model import Plan
from predictord.problem import Problem

PREFIX = struct.Struct("<IQ")
"""Length of the header and of the body, in bytes."""
PREFIX_BYTES = PREFIX.size

CHUNK_BYTES = 1 << 16
"""Read at once; below malloc's threshold for mmap, since a larger one would cost two system calls and page faults."""

MOST_BUFFERS = 512
"""Buffers given to one `sendmsg`; the kernel takes at most 1,024 (IOV_MAX)."""

MAX_BODY_BYTES = 1 << 36
"""A longer body is a broken peer: above what any batch of answers (2 GiB each) comes to in practice."""

MAX_HEADER_BYTES = 64 << 20
"""A longer header is a broken peer; checked before anything is allocated."""

STACK_SIGNAL = signal.SIGRTMIN + 5
"""Makes a worker write the stacks of its threads to its stacks pipe (`faulthandler`)."""

Buffer = bytes | bytearray | memoryview
Headers = list[tuple[bytes, bytes]]
Status = Annotated[int, msgspec.Meta(ge=200, lt=600)]
"""Of a final answer; the decoder refuses any other."""


def header(headers: Headers, name: bytes) -> str | None:
    """The first value of a header, or `None`; names are lower-case already."""
    for key, value in headers:
        if key == name:
            return value.decode("latin-1")
    return None


class RequestHead(msgspec.Struct, array_like=True, gc=False):
    """A client's request without its body; never changed, since requests with the same head share it."""

    content_type: str | None
    method: str
    path: str
    query: bytes
    http_version: str
    client: tuple[str, int] | None
    headers: Headers


class AnswerHead(msgspec.Struct, array_like=True, gc=False):
    """What one request of a `Predict` is answered with.

    `header_block` is rendered and checked by the worker (`name: value\\r\\n` each, without
    content-length), since the supervisor's time is shared by all workers. With a
    `problem` the rest is empty: the supervisor renders it.
    """

    status: Status
    header_block: bytes
    body_bytes: int
    problem: Problem | None = None


class WorkerOptions(msgspec.Struct, frozen=True):
    """Settings that concern a worker; `None` leaves the choice to the predictor class, else the default."""

    concurrency: int | None = None
    max_batch_size: int | None = None
    batch_interval_s: float | None = None
    swaps: bool = False
    """Whether code may be put into the living worker, which then records what ran while it loaded."""
    spins: bool = False
    """Whether there are cores enough that a worker may wait awake for a moment."""


# --- supervisor to worker: `Load` on the control socket, the others on data sockets


class Load(msgspec.Struct, array_like=True, tag=True):
    """Load this generation; sent once, after `Hello`."""

    generation: Generation
    options: WorkerOptions
    hold: bool = False
    """Stop after the contract check, say `Checked`, and wait for `Build`."""


class Build(msgspec.Struct, array_like=True, tag=True):
    """On the control socket: the old worker is gone, call `__init__`."""


class Predict(msgspec.Struct, array_like=True, tag=True, gc=False):
    """Run one request, or a batch; the frame's body is their bodies in order, of `sizes` bytes each.

    More may follow while it runs: a worker begins each only when it has sent the whole answer
    of the one before, and has looked for a `Recall`.
    """

    requests: list[RequestHead]
    sizes: list[int]


class Ping(msgspec.Struct, array_like=True, tag=True):
    """Answer `Pong`: asks the very thread that serves this socket."""


class Cancel(msgspec.Struct, array_like=True, tag=True):
    """The client left or its time is up: cancel the task, or close the stream, of the `Predict` with this number.

    A worker that has already answered ignores it. One that never gets anything ahead need not look at the number.
    """

    number: int


class Recall(msgspec.Struct, array_like=True, tag=True):
    """Forget every `Predict` that came before this and was not begun; answered by `Recalled`."""


class PrepareSwap(msgspec.Struct, array_like=True, tag=True):
    """See whether this code can be put into the living predictor; answered by `Prepared`, and nothing changes."""

    plan: Plan
    generation: Generation


class CommitSwap(msgspec.Struct, array_like=True, tag=True):
    """Put in what was prepared; answered by `Swapped`."""


ToWorker = Load | Build | Predict | Ping | Cancel | Recall | PrepareSwap | CommitSwap


# --- worker to supervisor: the first four on the control socket, the others on data sockets


class Hello(msgspec.Struct, array_like=True, tag=True):
    """The process runs, its signals and stack dumps are in place; user code comes next."""

    pid: int


class Form(StrEnum):
    """The form of a request's or an answer's body, as far as annotations tell."""

    JSON = "json"
    TEXT = "text"
    BYTES = "bytes"
    ANY = "any"
    """The Content-Type, or the value, decides."""
    NONE = "none"
    """The predictor never looks at it."""


class Interface(msgspec.Struct, array_like=True, frozen=True):
    """What callers are told of a predictor; the schemas are JSON schemas, as JSON.

    The answer is one item of it when it `streams`, or answers batches.
    """

    doc: str = ""
    """The class's docstring, and below that of `predict`."""
    predict_doc: str = ""
    takes_query: bool = True
    body: Form = Form.ANY
    body_schema: bytes | None = None
    answer: Form = Form.ANY
    answer_schema: bytes | None = None
    streams: bool = False


class Ready(msgspec.Struct, array_like=True, tag=True):
    """The predictor is loaded; data sockets follow in `Channels`, `concurrency` of them.

    `threads` has the native ident (`threading.get_ident`) of the thread behind each data
    socket; `late_files` are project files that the snapshot did not hold and the
    import found on disk.
    """

    class_name: str
    is_async: bool
    concurrency: int
    max_batch_size: int
    batch_interval_s: float
    threads: list[int]
    late_files: dict[str, bytes]
    interface: Interface


class Checked(msgspec.Struct, array_like=True, tag=True):
    """A held candidate has imported the predictor, and the contract is kept."""


class Channels(msgspec.Struct, array_like=True, tag=True):
    """Carries supervisor ends of data sockets as file descriptors, in the order of `Ready.threads`."""

    count: int


class LoadFailed(msgspec.Struct, array_like=True, tag=True):
    """Import, contract check or `__init__` failed; the process ends after this."""

    detail: str
    traceback: str


class Answers(msgspec.Struct, array_like=True, tag=True, gc=False):
    """One answer for each request of a `Predict`, in order, in one frame.

    `busy` says that the slot is not free yet (`post_predict`, a background task): `Free`
    follows. `unfit` says that the process cannot go on (a sticky CUDA error). `number`
    counts the socket's `Predict`s from 1, so that a stray answer is never another request's.
    """

    answers: list[AnswerHead]
    predict_ms: float
    number: int
    busy: bool = False
    unfit: bool = False


class StreamStart(msgspec.Struct, array_like=True, tag=True):
    """The head of a streamed answer; `StreamChunk` frames and one `StreamEnd` follow.

    `length` is the body's length in bytes where it is known (a file); `number` as in `Answers`.
    """

    status: Status
    header_block: bytes
    predict_ms: float
    number: int
    length: int | None = None


class StreamChunk(msgspec.Struct, array_like=True, tag=True, gc=False):
    """The frame's body is the next piece of the stream, as the client gets it."""


class StreamEnd(msgspec.Struct, array_like=True, tag=True):
    """The stream is over; with a `problem` it is cut."""

    problem: Problem | None = None
    busy: bool = False
    unfit: bool = False


class Free(msgspec.Struct, array_like=True, tag=True):
    """What ran after a `busy` answer is done; the slot may take the next request."""


class Recalled(msgspec.Struct, array_like=True, tag=True):
    """The answer to `Recall`: nothing of what came before it is begun any more."""


class Pong(msgspec.Struct, array_like=True, tag=True):
    """The answer to `Ping`."""


class Prepared(msgspec.Struct, array_like=True, tag=True):
    """Whether the swap can be committed; `veto` says why not."""

    veto: str | None = None


class Swapped(msgspec.Struct, array_like=True, tag=True):
    """The new code is in; `ready` is what a fresh worker would say of it (but for `threads`)."""

    ready: Ready


ToSupervisor = (
    Hello
    | Checked
    | Ready
    | Channels
    | LoadFailed
    | Answers
    | StreamStart
    | StreamChunk
    | StreamEnd
    | Free
    | Recalled
    | Pong
    | Prepared
    | Swapped
)

_encoder = msgspec.msgpack.Encoder()
_to_worker: msgspec.msgpack.Decoder[ToWorker] = msgspec.msgpack.Decoder(ToWorker)
_to_supervisor: msgspec.msgpack.Decoder[ToSupervisor] = msgspec.msgpack.Decoder(ToSupervisor)

encode: Any = _encoder.encode
decode_to_worker = _to_worker.decode
decode_to_supervisor = _to_supervisor.decode


def frame_head(message: ToWorker | ToSupervisor, body_bytes: int = 0) -> bytes:
    """The bytes of a frame up to its body, which the caller sends right after them."""
    header: bytes = encode(message)
    return PREFIX.pack(len(header), body_bytes) + header
