"""Downloads, from a local server that misbehaves on request."""

import gzip
import hashlib
import json
import re
import resource
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import requests

from dmemm.data import http
from dmemm.data.http import BLOCK, fetch
from dmemm.errors import UserError

BODY = np.random.default_rng(0).bytes(3 * BLOCK + 12345)
OTHER = np.random.default_rng(1).bytes(len(BODY))  # another version of the same length
SHA256 = hashlib.sha256(BODY).hexdigest()


@dataclass
class Mirror:
    """What the server does with a path, and what it was asked."""

    url: str
    body: bytes = BODY
    headers: dict[str, str] = field(default_factory=lambda: {"ETag": '"one"'})
    ranges: bool = True
    ignores_if_range: bool = False
    range_limit: int | None = None  # sends no more than that of a range
    length: bool = True
    chunked: bool = False
    pause: float = 0
    failures: list[int] = field(default_factory=list)  # the status of the next answers
    break_at: list[int] = field(default_factory=list)  # the next answers end after so many bytes
    before: Callable[["Mirror"], None] | None = None  # runs before the second answer and later ones
    requests: list[dict[str, str]] = field(default_factory=list)
    sent: list[int] = field(default_factory=list)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        mirror: Mirror = self.server.mirrors[self.path]  # type: ignore[attr-defined]
        if mirror.requests and mirror.before:
            mirror.before(mirror)
        mirror.requests.append({name.lower(): value for name, value in self.headers.items()})
        mirror.sent.append(0)
        if mirror.failures:
            self.send_error(mirror.failures.pop(0))
            return
        start, body = self.start_of_range(mirror), mirror.body
        if start is not None and start >= len(body):
            self.send_error(416)
            return
        self.send_response(200 if start is None else 206)
        if start is not None:
            rest = body[start:][: mirror.range_limit]
            self.send_header("Content-Range", f"bytes {start}-{start + len(rest) - 1}/{len(body)}")
            body = rest
        if mirror.length:
            self.send_header("Content-Length", str(len(body)))
        if mirror.chunked:
            self.send_header("Transfer-Encoding", "chunked")
        for name, value in mirror.headers.items():
            self.send_header(name, value)
        self.send_header("Connection", "close")  # which ends a body without a length, and breaks one cut short
        self.end_headers()
        with suppress(ConnectionError):  # the client may hang up
            self.send_body(mirror, body[: mirror.break_at.pop(0)] if mirror.break_at else body, len(body))

    def start_of_range(self, mirror: Mirror) -> int | None:
        match = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        condition = self.headers.get("If-Range")
        current = mirror.ignores_if_range or condition in (None, *mirror.headers.values())
        return int(match[1]) if match and mirror.ranges and current else None

    def send_body(self, mirror: Mirror, body: bytes, whole: int) -> None:
        size = len(body) // 4 + 1 if mirror.pause else BLOCK
        for begin in range(0, len(body), size):
            piece = body[begin : begin + size]
            mirror.sent[-1] += len(piece)  # before the client can have it
            self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece) if mirror.chunked else piece)
            time.sleep(mirror.pause)
        if mirror.chunked and len(body) == whole:
            self.wfile.write(b"0\r\n\r\n")

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture(autouse=True)
def no_waiting_and_no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "FIRST_WAIT_S", 0)
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.setenv(name, "127.0.0.1")


@pytest.fixture(scope="module")
def server() -> Iterator[ThreadingHTTPServer]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        running.mirrors = {}  # type: ignore[attr-defined]
        Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        yield running
        running.shutdown()


@pytest.fixture
def serve(server: ThreadingHTTPServer) -> Callable[..., Mirror]:
    def start(**settings: Any) -> Mirror:
        mirrors = server.mirrors  # type: ignore[attr-defined]
        path = f"/{len(mirrors)}"
        mirrors[path] = Mirror(f"http://127.0.0.1:{server.server_port}{path}", **settings)
        return mirrors[path]

    return start


Serve = Callable[..., Mirror]


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "sub" / "data.hdf5"


@pytest.fixture
def nowhere() -> str:
    """An address where nobody listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}/data"


def leave_part(output: Path, content: bytes, note: Any = None) -> None:
    """What a killed download leaves behind."""
    output.parent.mkdir(parents=True, exist_ok=True)
    output.with_name(output.name + ".part").write_bytes(content)
    if note is not None:
        output.with_name(output.name + ".part.json").write_text(json.dumps(note))


def only_has(output: Path, content: bytes) -> bool:
    return [path.name for path in output.parent.iterdir()] == [output.name] and output.read_bytes() == content


def failure(urls: list[str], output: Path, **checks: Any) -> str:
    with pytest.raises(UserError) as caught:
        fetch(urls, output, **checks)
    message = str(caught.value)
    assert message.splitlines() == [message]
    assert message.startswith(output.name) and str(output) in message and "check the network" in message
    assert all(url in message for url in urls)
    return message


@pytest.mark.parametrize(
    "settings",
    [{}, {"pause": 0.1}, {"length": False}, {"length": False, "chunked": True}, {"headers": {}}, {"body": b""}],
    ids=["plain", "slow", "no-length", "chunked", "no-validator", "empty"],
)
def test_whole_file(serve: Serve, output: Path, settings: dict[str, Any]) -> None:
    mirror = serve(**settings)
    sha256 = hashlib.sha256(mirror.body).hexdigest()
    assert fetch([mirror.url], output) == sha256
    assert only_has(output, mirror.body)
    (request,) = mirror.requests
    assert request["accept-encoding"] == "identity" and "range" not in request
    assert fetch([mirror.url], output, size=len(mirror.body), sha256=sha256.upper()) == sha256


def test_content_encoding_is_left_alone(serve: Serve, output: Path) -> None:
    """Servers label .gz files so; the file is what was sent, and the lengths are its own."""
    mirror = serve(body=gzip.compress(BODY), headers={"Content-Encoding": "gzip"})
    fetch([mirror.url], output, size=len(mirror.body))
    assert only_has(output, mirror.body)


@pytest.mark.parametrize("headers", [{"ETag": '"one"'}, {"Last-Modified": "Mon, 05 Jan 2026 00:00:00 GMT"}])
def test_broken_off_goes_on(serve: Serve, output: Path, headers: dict[str, str]) -> None:
    mirror = serve(headers=headers, break_at=[2 * BLOCK + 7, 1000])
    assert fetch([mirror.url], output) == SHA256
    assert only_has(output, BODY)
    first, second, third = mirror.requests
    assert "range" not in first
    assert second["range"] == f"bytes={2 * BLOCK + 7}-" and second["if-range"] in headers.values()
    assert third["range"] == f"bytes={2 * BLOCK + 7 + 1000}-"
    assert mirror.sent == [2 * BLOCK + 7, 1000, len(BODY) - 2 * BLOCK - 7 - 1000]


def test_broken_chunks_go_on(serve: Serve, output: Path) -> None:
    mirror = serve(length=False, chunked=True, break_at=[2 * BLOCK])
    assert fetch([mirror.url], output) == SHA256
    assert mirror.sent == [2 * BLOCK, len(BODY) - 2 * BLOCK]


def test_broken_off_too_often_is_kept_for_the_next_time(serve: Serve, output: Path) -> None:
    mirror = serve(break_at=[BLOCK] + [0] * (http.ATTEMPTS - 1))
    assert "broke off" in failure([mirror.url], output)
    assert len(mirror.requests) == http.ATTEMPTS and not output.exists()
    assert fetch([mirror.url], output) == SHA256
    assert mirror.sent[-1] == len(BODY) - BLOCK and only_has(output, BODY)


@pytest.mark.parametrize(
    "settings",
    [{"ranges": False}, {"headers": {}}, {"headers": {"ETag": 'W/"one"'}}],
    ids=["no-ranges", "none", "weak"],
)
def test_starts_over_where_resuming_is_impossible_or_unsafe(
    serve: Serve, output: Path, settings: dict[str, Any]
) -> None:
    mirror = serve(break_at=[2 * BLOCK], **settings)
    assert fetch([mirror.url], output) == SHA256
    assert mirror.sent == [2 * BLOCK, len(BODY)] and only_has(output, BODY)


@pytest.mark.parametrize("ignores", [False, True])
def test_file_changed_meanwhile(serve: Serve, output: Path, ignores: bool) -> None:
    def change(mirror: Mirror) -> None:
        mirror.body, mirror.headers = OTHER, {"ETag": '"two"'}

    mirror = serve(break_at=[2 * BLOCK], before=change, ignores_if_range=ignores)
    assert fetch([mirror.url], output) == hashlib.sha256(OTHER).hexdigest()
    assert mirror.requests[1]["range"] == f"bytes={2 * BLOCK}-"
    assert only_has(output, OTHER)


def test_killed_download_goes_on(serve: Serve, output: Path) -> None:
    mirror = serve()
    leave_part(output, BODY[:1000], {mirror.url: '"one"'})
    assert fetch([mirror.url], output) == SHA256
    assert mirror.requests[0]["range"] == "bytes=1000-" and mirror.sent == [len(BODY) - 1000]
    assert only_has(output, BODY)


@pytest.mark.parametrize("note", [None, [], {"http://elsewhere/": '"one"'}], ids=["none", "garbage", "other-mirror"])
def test_part_of_unknown_origin(serve: Serve, output: Path, note: Any) -> None:
    """Only a checksum can tell that it fits; the size cannot."""
    mirror = serve()
    leave_part(output, OTHER[:1000], note)
    assert fetch([mirror.url], output, size=len(BODY)) == SHA256
    assert mirror.sent == [len(BODY)]
    leave_part(output, BODY[:1000], note)
    assert fetch([mirror.url], output, sha256=SHA256) == SHA256
    assert mirror.sent[1:] == [len(BODY) - 1000]
    leave_part(output, OTHER[:1000], note)
    assert fetch([mirror.url], output, sha256=SHA256) == SHA256
    assert mirror.sent[2:] == [len(BODY) - 1000, len(BODY)] and only_has(output, BODY)


def test_possible_mixture_is_not_vouched_for_later(serve: Serve, output: Path) -> None:
    """A part from one mirror and another's bytes, allowed by a checksum that the next call does not have."""
    first, second = serve(body=OTHER), serve(break_at=[BLOCK] + [0] * http.ATTEMPTS)
    leave_part(output, OTHER[:1000], {first.url: '"one"'})
    failure([second.url], output, sha256=SHA256)
    assert second.sent[0] == BLOCK
    fetch([first.url], output)
    assert only_has(output, OTHER)


def test_answer_shorter_than_the_range(serve: Serve, output: Path) -> None:
    mirror = serve(break_at=[BLOCK], range_limit=BLOCK)
    assert fetch([mirror.url], output) == SHA256
    assert mirror.sent == [BLOCK, BLOCK, BLOCK, 12345]


@pytest.mark.parametrize("length", [len(BODY), len(BODY) + 5], ids=["whole", "too-long"])
def test_part_without_a_rest_starts_over(serve: Serve, output: Path, length: int) -> None:
    mirror = serve()
    leave_part(output, (OTHER + b"extra")[:length], {mirror.url: '"one"'})
    assert fetch([mirror.url], output) == SHA256
    assert "range" in mirror.requests[0] and mirror.sent == [0, len(BODY)] and only_has(output, BODY)


@pytest.mark.parametrize("checks", [{"sha256": SHA256}, {"size": len(BODY) + 1}], ids=["sha256", "size"])
@pytest.mark.parametrize("settings", [{}, {"length": False}], ids=["length", "no-length"])
def test_wrong_file_is_not_kept(serve: Serve, output: Path, checks: dict[str, Any], settings: dict[str, Any]) -> None:
    mirror = serve(body=OTHER, **settings)
    message = failure([mirror.url], output, **checks)
    # Where the server says the length, a wrong one is not even downloaded.
    known = "size" in checks and "length" not in settings
    assert ("has 3158073 bytes instead of 3158074" in message) == known and "instead of" in message
    assert len(mirror.requests) == 1 and list(output.parent.iterdir()) == []
    output.write_bytes(b"earlier")
    failure([mirror.url], output, **checks)
    assert only_has(output, b"earlier")


def test_wrong_file_on_the_first_mirror(serve: Serve, output: Path) -> None:
    wrong_bytes, wrong_size, right = serve(body=OTHER), serve(body=BODY[:-1]), serve()
    output.parent.mkdir()
    output.write_bytes(b"earlier")
    urls = [mirror.url for mirror in (wrong_bytes, wrong_size, right)]
    assert fetch(urls, output, size=len(BODY), sha256=SHA256) == SHA256
    assert only_has(output, BODY) and "range" not in right.requests[0]


@pytest.mark.parametrize("status", [401, 403, 404])
def test_next_mirror_at_once(serve: Serve, output: Path, status: int) -> None:
    without, right = serve(failures=[status] * 9), serve()
    assert fetch([without.url, right.url], output) == SHA256
    assert len(without.requests) == 1 and only_has(output, BODY)
    assert f"HTTP {status}" in failure([without.url], output)
    assert only_has(output, BODY)


def test_passing_trouble(serve: Serve, output: Path) -> None:
    mirror = serve(failures=[500, 429, 503])
    assert fetch([mirror.url], output) == SHA256
    assert len(mirror.requests) == 4


def test_lasting_trouble(serve: Serve, output: Path) -> None:
    mirror, right = serve(failures=[500] * 99), serve()
    assert fetch([mirror.url, right.url], output) == SHA256
    assert len(mirror.requests) == http.ATTEMPTS


def test_waits_double(serve: Serve, output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr(http, "FIRST_WAIT_S", 1.0)
    monkeypatch.setattr(http, "time", SimpleNamespace(sleep=waits.append))
    failure([serve(failures=[500] * 9).url], output)
    assert waits == [1, 2, 4, 8]


def test_no_network(output: Path, nowhere: str, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr(http, "time", SimpleNamespace(sleep=waits.append))
    message = failure([nowhere, nowhere + "2"], output)
    assert message.count("cannot connect: Connection refused") == 2
    assert len(waits) == 2 * (http.CONNECT_ATTEMPTS - 1)
    assert list(output.parent.iterdir()) == []


def test_connection_lost_after_an_answer_may_come_back(
    serve: Serve, output: Path, nowhere: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    mirror = serve(break_at=[BLOCK])
    asked: list[str] = []
    get = requests.Session.get

    def unreliable(session: Any, url: str, **options: Any) -> Any:
        asked.append(url)
        return get(session, nowhere if 2 <= len(asked) <= 4 else url, **options)

    monkeypatch.setattr(requests.Session, "get", unreliable)
    assert fetch([mirror.url], output) == SHA256
    assert len(asked) == http.ATTEMPTS and mirror.sent == [BLOCK, len(BODY) - BLOCK]


@pytest.mark.parametrize("url", ["ftp://host/file", "file:///etc/passwd", "/etc/passwd"])
def test_only_http(output: Path, url: str) -> None:
    with pytest.raises(UserError, match="not an http"):
        fetch([url], output)


def test_odd_addresses_and_none(serve: Serve, output: Path) -> None:
    odd = ["http://", "http://[::1", "http://.example./", "http://127.0.0.1:99999/"]
    assert fetch([*odd, serve().url], output) == SHA256
    failure(odd, output)
    failure([], output)


def test_cannot_write(serve: Serve, output: Path) -> None:
    output.parent.write_text("a file where the folder should be")
    with pytest.raises(UserError, match=r"data\.hdf5: cannot write: .*; free space or choose another folder"):
        fetch([serve().url], output)


@pytest.fixture
def small_disk() -> Iterator[None]:
    """Files cannot grow beyond a block and a half, which fails in the same place as a full disk."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (BLOCK * 3 // 2, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.usefixtures("small_disk")
def test_disk_full(serve: Serve, output: Path) -> None:
    """Not the mirror's fault: no other attempts."""
    mirror, spare = serve(), serve()
    with pytest.raises(UserError, match=r"data\.hdf5: cannot write: File too large; free space"):
        fetch([mirror.url, spare.url], output)
    assert len(mirror.requests) == 1 and spare.requests == [] and not output.exists()
