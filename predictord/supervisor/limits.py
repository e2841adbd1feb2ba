"""The door's limits: how much, and how long, a client may take."""

HEAD_BYTES = 64 << 10
"""Request line and header fields together."""
HEADER_FIELDS = 100
HEAD_TIMEOUT_S = 10.0
"""From the first byte of a request to the end of its header."""
BODY_GAP_S = 30.0
"""Between two pieces of a body."""
READER_TIMEOUT_S = 60.0
"""For a client that takes nothing of its answer."""
IDLE_TIMEOUT_S = 75.0
"""Between requests on one connection."""
LINGER_S = 1.0
"""How long the rest of a refused body is dropped, so that the client can read the refusal."""
SWEEP_S = 0.5
"""How often connections are looked at: what a time limit may be late by."""
