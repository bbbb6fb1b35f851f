"""What other packages raise, told in one line that ends where a sentence or a word does."""

from __future__ import annotations

import pytest

from specbench_s2d.errors import in_one_line

NODE_DIED = (
    "Task failed because the node it was running on is dead or unavailable. Node IP: 172.17.0.2, node ID: "
    "7c6f0a4bd7ef0f7d6a3e1f25d3a94a0f5a8c8b7b6d5e4f3a2b1c0d9e. This can happen if the instance where the node was "
    "running failed, the node was preempted, or raylet crashed unexpectedly (e.g., due to OOM) etc."
)


class NodeDiedError(Exception):
    """As Ray's."""


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (NodeDiedError(NODE_DIED), f"NodeDiedError: {NODE_DIED.partition(' This can')[0].rstrip('.')}"),
        (OSError("no such\n   file."), "no such file"),
        (RuntimeError(""), "RuntimeError"),
        (ValueError("word " * 100), ("word " * 39).strip() + "…"),
        (ValueError("Short. " + "word " * 100), "Short. " + ("word " * 38).strip() + "…"),
        (ValueError("x" * 300), "x" * 199 + "…"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_an_error_is_one_line_of_whole_sentences_or_words(error: Exception, told: str) -> None:
    assert in_one_line(error) == told and len(told) <= 200
