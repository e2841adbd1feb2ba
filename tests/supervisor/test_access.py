"""Who may call, as tables."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from predictord.problem import Code
from predictord.supervisor.access import AccessRules, asks_for_page, is_preflight
from predictord.wire import Headers

GOOD_HOST = (b"host", b"127.0.0.1:8000")
LOOPBACK = AccessRules()


def judge(
    *headers: tuple[bytes, bytes],
    rules: AccessRules = LOOPBACK,
    method: bytes | str = b"POST",
    path: bytes | str = b"/",
    local_address: str | None = "127.0.0.1",
) -> Code | None:
    """The code of the refusal; asked twice, since the second answer may come from what the first left known."""
    first = rules.check(method, path, list(headers), local_address)
    assert rules.check(method, path, list(headers), local_address) == first
    return first.code if first else None


@pytest.mark.parametrize(
    "host",
    ["localhost", "LOCALHOST", "LocalHost:1", "127.0.0.1", "127.0.0.1:65535", "[::1]", "[::1]:8000", "localhost:80"],
)
def test_loopback_names_pass_on_any_port(host: str) -> None:
    assert judge((b"host", host.encode())) is None


@pytest.mark.parametrize(
    "host",
    [
        b"evil.example",
        b"127.0.0.1.evil",
        b"127.0.0.1.evil:8000",
        b"localhost.",
        b"localhost.evil.example",
        b"evil-localhost",
        b"127.1",
        b"127.0.0.2",
        b"0x7f.1",
        b"2130706433",
        b"::1",
        b"[::ffff:127.0.0.1]",
        b"[0:0:0:0:0:0:0:1]",
        b"0.0.0.0",
        b"0.0.0.0:8000",
        b"localhost, evil.example",
        b"localhost,localhost",
        b"a@localhost",
        b"localhost@evil.example",
        b"localhost evil",
        b"local host",
        b"localhost\t",
        b" localhost",
        b"localhost\x00",
        b"localhost\n",
        b"localhost:",
        b"localhost:8000a",
        b"localhost:80:80",
        b"localhost:\xb2",
        b"localhost/",
        b"localhost/predict",
        b"localhost?",
        b"localhost#",
        b"localhost\\",
        b"http://localhost",
        b"*.local",
        b"box.local",
        b"*",
        b"l\xf6calhost",
        b"x" * 60_000,
    ],
)
def test_other_hosts_are_refused_and_told_the_flag(host: bytes) -> None:
    assert judge((b"host", host)) == Code.HOST_NOT_ALLOWED
    problem = LOOPBACK.check("POST", "/", [(b"host", host)], None)
    assert problem is not None
    assert "--allow-host" in problem.detail
    assert len(problem.detail) < 600
    assert problem.detail.isprintable()


@pytest.mark.parametrize(
    "headers",
    [[], [GOOD_HOST, GOOD_HOST], [GOOD_HOST, (b"host", b"evil.example")], [(b"host", b"")], [(b"host", b" \t")]],
)
def test_none_two_or_an_empty_host_is_a_bad_request(headers: Headers) -> None:
    assert judge(GOOD_HOST) is None
    assert judge(*headers) == Code.BAD_REQUEST


@given(st.one_of(st.text(alphabet="localhst127.0:[]@/ ", max_size=20).map(str.encode), st.binary(max_size=30)))
def test_no_other_host_ever_passes(host: bytes) -> None:
    is_ours = re.fullmatch(rb"(?i:localhost|127\.0\.0\.1|\[::1\])(:[0-9]{1,5})?", host) is not None
    assert (judge((b"host", host)) is None) == is_ours


def test_known_hosts_stay_few() -> None:
    rules = AccessRules()
    for port in range(1000):
        assert judge((b"host", b"localhost:%d" % port), rules=rules) is None
    assert len(rules._known_hosts) <= 64


@pytest.mark.parametrize(
    ("allow_host", "host", "passes"),
    [
        ("Box.local", b"box.LOCAL", True),
        ("box.local", b"box.local:9000", True),
        ("box.local", b"a.box.local", False),
        ("box.local", b"box.local.", False),
        ("box.local:9000", b"box.local:9000", True),
        ("box.local:9000", b"box.local:9001", False),
        ("fd00::1", b"[fd00::1]:8000", True),
        ("[fd00::1]", b"[fd00::1]", True),
    ],
)
def test_allowed_hosts_pass(allow_host: str, host: bytes, passes: bool) -> None:
    assert (judge((b"host", host), rules=AccessRules(allow_host=(allow_host,))) is None) == passes


@pytest.mark.parametrize(
    ("is_loopback", "host", "local_address", "passes"),
    [
        (False, b"192.0.2.1:8000", "192.0.2.1", True),
        (False, b"192.0.2.1", "::ffff:192.0.2.1", True),
        (False, b"[fe80::1]:8000", "fe80::1%eth0", True),
        (False, b"[2001:DB8:0::1]", "2001:db8::1", True),
        (False, b"127.0.0.1", "192.0.2.1", True),
        (False, b"192.0.2.2", "192.0.2.1", False),
        (False, b"evil.example", "192.0.2.1", False),
        (False, b"192.0.2.1", None, False),
        (True, b"192.0.2.1", "192.0.2.1", False),
    ],
)
def test_the_connections_own_address_is_a_host_only_beyond_loopback(
    is_loopback: bool, host: bytes, local_address: str | None, passes: bool
) -> None:
    rules = AccessRules(is_loopback=is_loopback)
    assert (judge((b"host", host), rules=rules, local_address=local_address) is None) == passes


def test_an_address_that_passed_on_one_connection_does_not_on_another() -> None:
    rules = AccessRules(is_loopback=False)
    host = (b"host", b"192.0.2.1")
    assert judge(host, rules=rules, local_address="192.0.2.1") is None
    assert judge(host, rules=rules, local_address="198.51.100.1") == Code.HOST_NOT_ALLOWED


@pytest.mark.parametrize("path", ["http://127.0.0.1:8000/", "http://evil.example/", "evil.example:443", "*", "", b"x"])
def test_only_paths_are_targets(path: bytes | str) -> None:
    assert judge(GOOD_HOST) is None
    assert judge(GOOD_HOST, path=path) == Code.BAD_REQUEST


@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "OPTIONS", "PUT", "TRACE", "get", "CONNECT"])
@pytest.mark.parametrize(
    ("origin", "passes"),
    [
        (b"http://localhost:3000", True),
        (b"https://localhost", True),
        (b"http://127.0.0.1:8000", True),
        (b"http://[::1]:5173", True),
        (b"http://evil.example", False),
        (b"http://localhost.evil.example", False),
        (b"http://localhost@evil.example", False),
        (b"http://localhost:3000/", False),
        (b"http://localhost:3000 http://evil.example", False),
        (b"http://localhost:3000\r\nx: y", False),
        (b"http://127.0.0.2", False),
        (b"null", False),
        (b"", False),
        (b"file://", False),
        (b"file://localhost", False),
        (b"chrome-extension://localhost", False),
        (b"ws://localhost:3000", False),
        (b"localhost", False),
    ],
)
def test_origins(method: str, origin: bytes, passes: bool) -> None:
    expected = None if passes else Code.ORIGIN_NOT_ALLOWED
    assert judge(GOOD_HOST, (b"origin", origin), method=method) == expected
    assert bool(LOOPBACK.cors_headers([GOOD_HOST, (b"origin", origin)], method)) == passes


def test_a_refused_origin_is_told_the_flag() -> None:
    problem = LOOPBACK.check("POST", "/", [GOOD_HOST, (b"origin", b"http://evil.example")], None)
    assert problem is not None
    assert "'http://evil.example'" in problem.detail
    assert "--allow-origin" in problem.detail


@pytest.mark.parametrize(
    ("origin", "passes"),
    [(b"https://app.example", True), (b"https://app.example:8443", False), (b"http://app.example", False)],
)
def test_allowed_origins_are_compared_whole(origin: bytes, passes: bool) -> None:
    rules = AccessRules(allow_origin=("https://App.example/",))
    assert (judge(GOOD_HOST, (b"origin", origin), rules=rules) is None) == passes


def test_two_origins_are_refused() -> None:
    good = (b"origin", b"http://localhost")
    assert judge(GOOD_HOST, good, good) == Code.ORIGIN_NOT_ALLOWED
    assert LOOPBACK.cors_headers([GOOD_HOST, good, good]) == b""


@pytest.mark.parametrize(
    ("site", "mode", "method", "path", "passes"),
    [
        (b"cross-site", b"navigate", "GET", "/", True),
        (b"same-site", b"navigate", "GET", "/", True),
        (b"cross-site", b"navigate", "POST", "/", False),
        (b"cross-site", b"navigate", "HEAD", "/", False),
        (b"cross-site", b"navigate", "GET", "/status", False),
        (b"cross-site", b"navigate", "GET", "/predict", False),
        (b"cross-site", b"no-cors", "GET", "/", False),
        (b"cross-site", b"no-cors", "POST", "/", False),
        (b"cross-site", b"websocket", "GET", "/", False),
        (b"same-site", b"cors", "GET", "/events", False),
        (b"Cross-Site", b"cors", "POST", "/", False),
        (b"same-origin", b"cors", "POST", "/", True),
        (b"none", b"navigate", "GET", "/status", True),
    ],
)
def test_other_sites_pages_only_link_here(site: bytes, mode: bytes, method: str, path: str, passes: bool) -> None:
    assert judge(GOOD_HOST) is None
    headers = [GOOD_HOST, (b"sec-fetch-site", site), (b"sec-fetch-mode", mode)]
    assert judge(*headers, method=method, path=path) == (None if passes else Code.ORIGIN_NOT_ALLOWED)


def test_an_allowed_origin_passes_across_sites() -> None:
    headers = [GOOD_HOST, (b"origin", b"http://localhost:3000"), (b"sec-fetch-site", b"cross-site")]
    assert judge(*headers) is None


def test_an_allowed_page_may_read_our_headers() -> None:
    block = LOOPBACK.cors_headers([GOOD_HOST, (b"origin", b"http://localhost:3000")])
    assert block.split(b"\r\n") == [
        b"access-control-allow-origin: http://localhost:3000",
        b"access-control-expose-headers: "
        b"x-request-id, x-predictord-worker, x-predictord-generation, server-timing, retry-after",
        b"vary: origin",
        b"",
    ]
    assert LOOPBACK.cors_headers([GOOD_HOST]) == b""


PREFLIGHT = [GOOD_HOST, (b"origin", b"http://localhost:3000"), (b"access-control-request-method", b"POST")]


def test_a_preflight_is_granted_what_it_asks_for() -> None:
    asked = (b"access-control-request-headers", b"authorization,content-type")
    assert LOOPBACK.cors_headers([*PREFLIGHT, asked], "OPTIONS").split(b"\r\n") == [
        b"access-control-allow-origin: http://localhost:3000",
        b"access-control-allow-methods: GET, HEAD, POST",
        b"access-control-allow-headers: authorization,content-type",
        b"access-control-max-age: 600",
        b"vary: origin, access-control-request-headers",
        b"",
    ]


def test_a_preflight_can_not_inject_headers() -> None:
    block = LOOPBACK.cors_headers([*PREFLIGHT, (b"access-control-request-headers", b"a\r\nx: y")], "OPTIONS")
    assert b"x: y" not in block


@pytest.mark.parametrize(
    ("method", "headers", "expected"),
    [("OPTIONS", PREFLIGHT, True), (b"POST", PREFLIGHT, False), ("OPTIONS", PREFLIGHT[:2], False)],
)
def test_is_preflight(method: bytes | str, headers: Headers, expected: bool) -> None:
    assert is_preflight(method, headers) == expected


GUARDED = AccessRules(token="s3cret")


@pytest.mark.parametrize(
    ("authorization", "passes"),
    [
        ([b"Bearer s3cret"], True),
        ([b"bearer s3cret"], True),
        ([], False),
        ([b""], False),
        ([b"s3cret"], False),
        ([b"Bearer"], False),
        ([b"Bearer "], False),
        ([b"Bearer s3cre"], False),
        ([b"Bearer s3cret2"], False),
        ([b"Bearer S3CRET"], False),
        ([b"Basic s3cret"], False),
        ([b"Bearer s3cret", b"Bearer s3cret"], False),
        ([b"Bearer s3cr\xc3\xa9t"], False),
        ([b"Bearer " + b"x" * 60_000], False),
    ],
)
def test_tokens(authorization: list[bytes], passes: bool) -> None:
    headers = [GOOD_HOST, *((b"authorization", value) for value in authorization)]
    assert judge(*headers, rules=GUARDED) == (None if passes else Code.TOKEN_REQUIRED)


def test_every_refused_token_gets_the_same_answer() -> None:
    wrong = [[], [(b"authorization", b"Bearer wrong")], [(b"cookie", b"token=s3cret")]]
    problems = [GUARDED.check("POST", "/", [GOOD_HOST, *headers], None) for headers in wrong]
    assert problems[0] is not None
    assert problems == [problems[0]] * 3
    assert "s3cret" not in repr(GUARDED)


@pytest.mark.parametrize(
    ("method", "path", "accept", "passes"),
    [
        ("GET", "/healthz", b"*/*", True),
        ("GET", "/", b"text/html,application/xhtml+xml;q=0.9,*/*;q=0.8", True),
        ("HEAD", b"/", b"Text/HTML;q=1", True),
        ("GET", "/", b"*/*", False),
        ("GET", "/", b"application/json;x=text/html", False),
        ("POST", "/", b"text/html", False),
        ("GET", "/status", b"text/html", False),
        ("GET", "/readyz", b"*/*", False),
    ],
)
def test_only_liveness_and_the_empty_page_need_no_token(
    method: str, path: bytes | str, accept: bytes, passes: bool
) -> None:
    headers = [GOOD_HOST, (b"accept", accept)]
    assert (judge(*headers, rules=GUARDED, method=method, path=path) is None) == passes
    if path != "/healthz":
        assert asks_for_page(method, path, headers) == passes


@pytest.mark.parametrize(
    ("method", "path", "passes"),
    [
        ("GET", "/dashboard/page.js", True),
        ("HEAD", b"/dashboard/style.css", True),
        ("POST", "/dashboard/page.js", False),
        ("GET", "/dashboard/", False),
        ("GET", "/dashboard/../status", False),
        ("GET", "/dashboard/..%2fstatus", False),
        ("GET", "/dashboard/page.js/../../status", False),
        ("GET", "/dashboard/page.js\n", False),
        ("GET", "/x/dashboard/page.js", False),
    ],
)
def test_what_the_page_is_made_of_needs_no_token(method: str, path: bytes | str, passes: bool) -> None:
    assert (judge(GOOD_HOST, rules=GUARDED, method=method, path=path) is None) == passes
    assert judge((b"host", b"evil.example"), rules=GUARDED, method=method, path=path) == Code.HOST_NOT_ALLOWED


def test_a_preflight_needs_no_token_but_an_allowed_origin() -> None:
    assert judge(*PREFLIGHT, rules=GUARDED, method="OPTIONS") is None
    foreign = [GOOD_HOST, (b"origin", b"http://evil.example"), PREFLIGHT[2]]
    assert judge(*foreign, rules=GUARDED, method="OPTIONS") == Code.ORIGIN_NOT_ALLOWED
