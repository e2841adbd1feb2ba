"""What a worker prints, through real pipes and a real event loop."""

import asyncio
import fcntl
import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from predictord.supervisor.output import (
    BURST_LINES,
    LINES_PER_S,
    MAX_LINE_BYTES,
    TAIL_LINES,
    LineRate,
    LineSplitter,
    WorkerOutput,
)


@pytest.mark.parametrize(
    ("pieces", "lines", "rest"),
    [
        ([b"a\nb\n"], [b"a", b"b"], b""),
        ([b"a", b"b\nc"], [b"ab"], b"c"),
        ([b"a\r\nb\r", b"\nc\n"], [b"a", b"b", b"c"], b""),
        ([b"\r 1%", b"\r 2%", b"\rdone\n"], [b" 1%", b" 2%", b"done"], b""),
        ([b"\n\n\r\na\n\n", b"\n"], [b"a"], b""),
        ([b"", b"\n"], [], b""),
        ([b"a\x0bb\x0cc\xe2\x80\xa8d\n"], [b"a\x0bb\x0cc\xe2\x80\xa8d"], b""),
    ],
)
def test_lines_end_at_lf_cr_and_crlf(pieces: list[bytes], lines: list[bytes], rest: bytes) -> None:
    splitter = LineSplitter()
    assert [line for piece in pieces for line in splitter.feed(piece)] == lines
    assert splitter.flush() == rest
    assert splitter.flush() == b""


@given(st.lists(st.one_of(st.sampled_from([b"\r", b"\n", b"\r\n", b"\n\r"]), st.binary(max_size=9))))
def test_where_reads_are_cut_does_not_matter(pieces: list[bytes]) -> None:
    splitter = LineSplitter()
    lines = [line for piece in pieces for line in splitter.feed(piece)]
    assert [*lines, *filter(None, [splitter.flush()])] == [
        line for line in re.split(rb"[\r\n]", b"".join(pieces)) if line
    ]


@pytest.mark.parametrize("piece_bytes", [1000, MAX_LINE_BYTES, 10 * MAX_LINE_BYTES])
def test_a_long_line_is_cut_and_says_so(piece_bytes: int) -> None:
    data = (
        b"first\n" + b"x" * (MAX_LINE_BYTES + 1234) + b"\nnext" + b"y" * MAX_LINE_BYTES + b"\n" + b"z" * MAX_LINE_BYTES
    )
    splitter = LineSplitter()
    pieces = [data[at : at + piece_bytes] for at in range(0, len(data), piece_bytes)]
    lines = [line for piece in pieces for line in splitter.feed(piece)]
    assert [*lines, splitter.flush()] == [
        b"first",
        b"x" * MAX_LINE_BYTES + " … (1,234 more bytes)".encode(),
        b"next" + b"y" * (MAX_LINE_BYTES - 4) + " … (4 more bytes)".encode(),
        b"z" * MAX_LINE_BYTES,
    ]


def test_the_rate_is_a_burst_and_then_a_trickle() -> None:
    rate = LineRate(now=100.0)
    asked = [(BURST_LINES - 1, 100.0), (10, 100.0), (10, 100.0), (10, 100.01), (9000, 101.01), (9000, 1000.0)]
    assert [rate.take(lines, now) for lines, now in asked] == [BURST_LINES - 1, 1, 0, 5, LINES_PER_S, BURST_LINES]


class Pipe:
    """A worker's end of the pipe, and the lines that came out at the other."""

    def __init__(self) -> None:
        read_end, self.write_end = os.pipe()
        self.lines: list[str] = []
        self.output = WorkerOutput(read_end, self.lines.append)
        self.read_end = read_end

    def write(self, data: bytes) -> None:
        os.write(self.write_end, data)

    def hang_up(self) -> None:
        if self.write_end >= 0:
            os.close(self.write_end)
            self.write_end = -1


@asynccontextmanager
async def worker_pipe() -> AsyncIterator[Pipe]:
    pipe = Pipe()
    pipe.output.start()
    try:
        yield pipe
    finally:
        pipe.output.close()
        pipe.hang_up()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0.005)


@pytest.mark.parametrize(
    ("printed", "shown"),
    [
        (b"plain", "plain"),
        ("naïve ✓ 日本".encode(), "naïve ✓ 日本"),
        (b"\x1b[1;31mred\x1b[0m and \x1b[38;2;1;2;3mblue\x1b[m\x1b[K", "red and blue"),
        (b"\x1b[A 50%|####    | 1/2", " 50%|####    | 1/2"),
        (b"a\tb", "a       b"),
        (b"\x1b[2Jcleared", "\\x1b[2Jcleared"),
        (b"\x1b]0;title\x07", "\\x1b]0;title\\x07"),
        (b"nul \x00 bell \x07 del \x7f", "nul \\x00 bell \\x07 del \\x7f"),
        ("c1 \x9b31m line \u2028 bidi \u202e".encode(), "c1 \\x9b31m line \\u2028 bidi \\u202e"),
        (b"\xff\xfe binary \xc3", "\ufffd\ufffd binary \ufffd"),
        (b"trailing  \x1b[0m ", "trailing"),
    ],
)
def test_lines_come_out_harmless(printed: bytes, shown: str) -> None:
    async def scenario() -> None:
        async with worker_pipe() as pipe:
            pipe.write(printed + b"\n   \n" + b"end\n")
            await until(lambda: "end" in pipe.lines)
            assert pipe.lines == [shown, "end"]
            assert pipe.output.tail == [shown, "end"]
            assert pipe.output.bytes_seen == len(printed) + 9

    asyncio.run(scenario())


def test_a_turn_of_the_loop_reads_only_a_piece() -> None:
    async def scenario() -> None:
        async with worker_pipe() as pipe:
            held = fcntl.fcntl(pipe.write_end, fcntl.F_SETPIPE_SZ, 256 * 1024)
            pipe.write(b"x\n" * (held // 2))
            turns = 0
            while pipe.output.bytes_seen < held:
                await asyncio.sleep(0)
                turns += 1
            assert turns >= 16

    asyncio.run(scenario())


def test_a_flood_does_not_block_the_worker() -> None:
    lines = 200_000
    flood = f"import sys; sys.stdout.write(''.join(f'line {{i}}\\n' for i in range({lines})))"

    async def scenario() -> None:
        async with worker_pipe() as pipe:
            process = subprocess.Popen([sys.executable, "-c", flood], stdout=pipe.write_end)
            pipe.hang_up()
            await until(lambda: process.poll() is not None)
            assert process.returncode == 0
            pipe.output.drain()
            shown = [line for line in pipe.lines if line.startswith("line ")]
            told = [
                re.fullmatch(r"… ([0-9,]+) lines not shown: more than 500 lines a second", line) for line in pipe.lines
            ]
            assert BURST_LINES <= len(shown) < lines / 4
            assert len(shown) + sum(int(match[1].replace(",", "")) for match in told if match) == lines
            assert pipe.output.tail == [f"line {number}" for number in range(lines - TAIL_LINES, lines)]
            assert pipe.output.bytes_seen == sum(len(f"line {number}\n") for number in range(lines))

    asyncio.run(scenario())


def test_dropped_lines_are_told_while_the_worker_is_silent() -> None:
    async def scenario() -> None:
        async with worker_pipe() as pipe:
            for _ in range(10):
                pipe.write(b"x\n" * (BURST_LINES // 5))
                await asyncio.sleep(0)
            await until(lambda: pipe.lines[-1:] != [] and pipe.lines[-1].startswith("…"))
            pipe.output.drain()
            assert sum(line.startswith("…") for line in pipe.lines) == 1

    asyncio.run(scenario())


def test_drain_takes_what_a_dead_worker_left_though_a_grandchild_holds_the_pipe() -> None:
    async def scenario() -> None:
        async with worker_pipe() as pipe:
            pipe.write(b"x" * 40_000 + b"\nTraceback:\n  last words")
            pipe.output.drain()  # the write end is still open here: reading on would block
            assert pipe.lines[1:] == ["Traceback:", "  last words"]
            assert pipe.output.tail[-1] == "  last words"

    asyncio.run(scenario())


def test_drain_ends_though_a_grandchild_writes_on() -> None:
    output = WorkerOutput(os.open("/dev/zero", os.O_RDONLY), lambda _: None)
    output.drain()
    output.close()
    assert 1 << 20 <= output.bytes_seen < 1 << 24  # all that a pipe can hold, and an end


def test_a_worker_that_closes_its_output_does_not_keep_the_loop_spinning() -> None:
    async def scenario() -> None:
        async with worker_pipe() as pipe:
            pipe.write(b"bye\n")
            pipe.hang_up()
            await until(lambda: pipe.lines == ["bye"])
            await asyncio.sleep(0.01)
            assert not asyncio.get_running_loop().remove_reader(pipe.read_end)

    asyncio.run(scenario())


def test_close_gives_the_descriptor_back_once() -> None:
    async def scenario() -> None:
        async with worker_pipe() as pipe:
            pipe.output.close()
            with pytest.raises(OSError, match="Bad file descriptor"):
                os.fstat(pipe.read_end)

    asyncio.run(scenario())
