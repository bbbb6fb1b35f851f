"""Downloads, from a server on this machine: the right bytes are kept, everything else leaves nothing behind."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from specbench_s2d import suites
from specbench_s2d.download import fetch
from specbench_s2d.errors import QuestionFileError, UserError

CONTENT = (json.dumps({"question_id": 1, "category": "qa", "turns": ["Who?"]}) + "\n").encode()
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Server(ThreadingHTTPServer):
    """Serves `CONTENT` at /right, other bytes at /wrong, half an answer at /short; counts the requests."""

    requests = 0

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.server_port}/{name}"


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        self.server.requests += 1
        body = {"/right": CONTENT, "/wrong": CONTENT + b" ", "/short": CONTENT[:9]}.get(self.path)
        self.send_response(200 if body else 404)
        self.send_header("Content-Length", str(len(CONTENT) if self.path == "/short" else len(body or b"")))
        self.end_headers()
        self.wfile.write(body or b"")

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with Server(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def files_in(folder: Path) -> list[str]:
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


def test_the_right_file_is_kept_and_fetched_once(server: Server, tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "file"
    for _ in range(2):
        assert fetch(server.url("right"), path, SHA256) == path
    assert path.read_bytes() == CONTENT
    assert server.requests == 1
    assert files_in(tmp_path) == ["new/folder/file"]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("wrong", f"is not the file expected: its SHA-256 is .*, not {SHA256}; nothing was kept"),
        ("short", "could not be downloaded"),
        ("absent", "could not be downloaded"),
    ],
)
def test_anything_else_leaves_nothing_behind(server: Server, tmp_path: Path, name: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        fetch(server.url(name), tmp_path / "file", SHA256)
    assert files_in(tmp_path) == []


def test_a_damaged_copy_is_replaced_and_survives_a_failed_try(server: Server, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"damaged")
    with pytest.raises(UserError):
        fetch(server.url("wrong"), path, SHA256)
    assert path.read_bytes() == b"damaged"
    assert fetch(server.url("right"), path, SHA256).read_bytes() == CONTENT


def test_an_interrupted_write_leaves_nothing_behind(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_space(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(UserError, match=r"file cannot be written \(No space left on device\)"):
        fetch(server.url("right"), tmp_path / "file", SHA256)
    assert files_in(tmp_path) == []


def test_a_cache_folder_that_cannot_be_made_is_named(server: Server, tmp_path: Path) -> None:
    (tmp_path / "taken").write_bytes(b"")
    with pytest.raises(UserError, match="taken/file cannot be written"):
        fetch(server.url("right"), tmp_path / "taken" / "file", SHA256)


def test_spec_bench_is_downloaded_into_the_cache_and_then_read_from_it(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPECBENCH_CACHE", str(tmp_path))
    monkeypatch.setattr(suites, "SPEC_BENCH_URL", server.url("right"))
    monkeypatch.setattr(suites, "SPEC_BENCH_SHA256", SHA256)
    for _ in range(2):
        found = suites.load_questions("spec-bench", ["qa"])
        assert found.source == "spec-bench"
        assert [q.id for q in found] == [1]
    assert server.requests == 1
    assert files_in(tmp_path) == ["spec_bench/question.jsonl"]


def test_spec_bench_with_a_wrong_checksum_is_refused(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPECBENCH_CACHE", str(tmp_path))
    monkeypatch.setattr(suites, "SPEC_BENCH_URL", server.url("right"))
    with pytest.raises(QuestionFileError, match=f"not {suites.SPEC_BENCH_SHA256}.*--questions FILE"):
        suites.load_questions("spec-bench", ["qa"])
    assert files_in(tmp_path) == []


def test_spec_bench_offline_says_to_give_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("SPECBENCH_CACHE", str(tmp_path))
    monkeypatch.setattr(suites, "SPEC_BENCH_URL", "http://127.0.0.1:9/question.jsonl")  # nobody listens there
    with pytest.raises(QuestionFileError) as caught:
        suites.load_questions("spec-bench", ["qa"])
    message = str(caught.value)
    assert "could not be downloaded" in message
    assert message.endswith("--questions FILE.")
    assert "\n" not in message
    assert files_in(tmp_path) == []
