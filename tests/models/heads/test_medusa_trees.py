"""Medusa's trees: published ones and files; what is none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from specbench_s2d.decoding.spec import parse_decoder
from specbench_s2d.errors import UserError
from specbench_s2d.models.heads.medusa_trees import _PUBLISHED, nodes_of, tree_hash
from tests.refusals import refused


def test_published_trees_are_trees_of_63_nodes_in_the_order_of_their_worth() -> None:
    for name in _PUBLISHED:
        nodes = nodes_of(name)
        assert len(set(nodes)) == 63 and nodes[0] == (0,)
        assert all(node[:-1] in nodes[:i] for i, node in enumerate(nodes) if len(node) > 1)
    assert nodes_of("mc_sim_7b_63")[:8] == ((0,), (0, 0), (1,), (0, 1), (2,), (0, 0, 0), (1, 0), (0, 2))
    assert max(map(len, nodes_of("mc_sim_7b_63"))) == 4


def test_a_file_of_a_tree_is_read_and_its_content_is_in_the_keys(tmp_path: Path) -> None:
    file = tmp_path / "tree.json"
    file.write_text("[[0], [1], [0, 0]]")
    assert nodes_of(str(file)) == ((0,), (1,), (0, 0))
    (key, first), *_ = tree_hash(str(file)).items()
    assert key == f"tree={file}" and tree_hash("mc_sim_7b_63") == tree_hash("confidence") == {}
    other = tmp_path / "other.json"
    other.write_text("[[0], [1], [0, 1]]")
    assert [*tree_hash(str(other)).values()] != [first]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "no such tree; it is one of confidence, mc_sim_7b_63"),
        ("[[0], [0", "the file is no JSON"),
        ('{"tree": 1}', "no list of paths of ranks"),
        pytest.param("[" * 5000 + "]" * 5000, "the file is no JSON", id="nested too deep"),
        ("[[0], [1000]]", "no list of paths of ranks from 0 to 999"),
        ("[]", "no list of paths of ranks"),
        ("[[0], [-1]]", "no list of paths of ranks"),
        ("[[0], [true]]", "no list of paths of ranks"),
        ("[[0], [0]]", "holds node [0] twice"),
        ("[[0, 1], [0]]", "node [0, 1] stands before its parent [0], or without it"),
        (json.dumps([[rank] for rank in range(97)]), "a tree of 97 tokens, and there is room for 96"),
    ],
)
def test_what_is_no_tree_is_refused_in_one_line(text: str | None, said: str, tmp_path: Path) -> None:
    file = tmp_path / "tree.json"
    if text is not None:
        file.write_text(text)
    with refused(UserError, f"decoder 'medusa': tree={file}: ", said):
        parse_decoder(f"medusa:tree={file}")


@pytest.mark.parametrize("options", ["tree=confidence", "tokens=5", "topk=2"])
def test_a_chain_has_no_tree(options: str) -> None:
    with refused(UserError, "it is of a tree, and gamma=N asks for a chain"):
        parse_decoder(f"medusa:gamma=2,{options}")


def test_more_tokens_than_the_cache_has_room_for_are_refused() -> None:
    with refused(UserError, "decoder 'medusa': tokens=97", "less than or equal to 96"):
        parse_decoder("medusa:tokens=97")
