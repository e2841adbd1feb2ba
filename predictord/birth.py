"""What supervisor and zygote say to each other: one packet is one message with all its file descriptors."""

import msgspec

PACKET_BYTES = 1 << 18
"""Above the kernel's default for a whole socket buffer."""


class Warm(msgspec.Struct, array_like=True, tag=True):
    """Import these installed modules ahead of the predictor at `path`; the first message, sent once."""

    modules: list[str]
    path: str


class Bear(msgspec.Struct, array_like=True, tag=True):
    """Make a worker; carries its control socket, its output pipe and its stacks pipe, in this order.

    `environment` is where its variables differ from the zygote's; `None` removes one.
    """

    number: int
    environment: dict[str, str | None]


class Warmed(msgspec.Struct, array_like=True, tag=True):
    """The answer to `Warm`; `obstacle` says why no worker should be made here, and is empty otherwise."""

    obstacle: str


class Born(msgspec.Struct, array_like=True, tag=True):
    """The answer to `Bear`: the worker's pid, or why there is none."""

    number: int
    pid: int
    obstacle: str = ""


ToZygote = Warm | Bear
FromZygote = Warmed | Born

encode = msgspec.msgpack.Encoder().encode
decode_to_zygote = msgspec.msgpack.Decoder[ToZygote](ToZygote).decode
decode_from_zygote = msgspec.msgpack.Decoder[FromZygote](FromZygote).decode
