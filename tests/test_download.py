"""Spec-Bench's question file over HTTP: kept once in the cache if its SHA-256 is right, else one line and no file."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from specbench_s2d.errors import QuestionFileError
from specbench_s2d.suites import load as suites

CONTENT = (json.dumps({"question_id": 1, "category": "qa", "turns": ["Who?"]}) + "\n").encode()
NAME = Path("spec_bench") / "question.jsonl"


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
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("SPECBENCH_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def server(cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A server whose /right is the file that is asked for."""
    with Server(("127.0.0.1", 0), Handler) as running:
        monkeypatch.setattr(suites, "SPEC_BENCH_URL", running.url("right"))
        monkeypatch.setattr(suites, "SPEC_BENCH_SHA256", hashlib.sha256(CONTENT).hexdigest())
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def load() -> suites.QuestionSet:
    return suites.load_questions("spec-bench", ["qa"])


def files_in(folder: Path) -> list[Path]:
    return sorted(p.relative_to(folder) for p in folder.rglob("*") if p.is_file())


def test_the_file_is_downloaded_into_the_cache_and_then_read_from_it(
    server: Server, cache: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for _ in range(2):
        found = load()
        assert found.source == "spec-bench"
        assert [q.id for q in found] == [1]
    assert server.requests == 1
    assert files_in(cache) == [NAME]
    assert (cache / NAME).read_bytes() == CONTENT
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("name", "said"),
    [("wrong", "does not match the known hash"), ("short", "could not be downloaded"), ("absent", "404")],
)
def test_anything_else_is_one_line_and_leaves_nothing_behind(
    server: Server, cache: Path, monkeypatch: pytest.MonkeyPatch, name: str, said: str
) -> None:
    monkeypatch.setattr(suites, "SPEC_BENCH_URL", server.url(name))
    with pytest.raises(QuestionFileError, match=rf"^.*{said}.* --questions FILE\.$"):
        load()
    assert files_in(cache) == []


def test_a_damaged_copy_is_replaced_and_survives_a_failed_try(
    server: Server, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (cache / NAME).parent.mkdir(parents=True)
    (cache / NAME).write_bytes(b"damaged")
    with monkeypatch.context() as patched:
        patched.setattr(suites, "SPEC_BENCH_URL", server.url("wrong"))
        with pytest.raises(QuestionFileError):
            load()
    assert (cache / NAME).read_bytes() == b"damaged"
    assert len(load()) == 1


def test_a_cache_folder_that_cannot_be_made_is_named(server: Server, cache: Path) -> None:
    cache.write_bytes(b"")
    with pytest.raises(QuestionFileError, match=rf"could not be downloaded to {cache}/spec_bench \(.*Not a directory"):
        load()
    assert server.requests == 0


def test_offline_the_line_says_why_and_to_give_the_file(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suites, "SPEC_BENCH_URL", "http://127.0.0.1:9/question.jsonl")  # nobody listens there
    with pytest.raises(QuestionFileError) as caught:
        load()
    assert str(caught.value) == (
        f"http://127.0.0.1:9/question.jsonl could not be downloaded to {cache}/spec_bench ([Errno 111] Connection "
        "refused). Give Spec-Bench's question.jsonl by path: --questions FILE."
    )
    assert files_in(cache) == []
