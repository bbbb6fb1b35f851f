"""Models by family, size and version; the papers' targets and methods: the tables, and what is read off them."""

from __future__ import annotations

from specbench_s2d.models.shapes import shape_rows
from specbench_s2d.paper_names import ModelFacts, model_facts, paper_methods, same_model, target_models
from specbench_s2d.published import published


def test_a_model_is_known_by_its_exact_name_alone() -> None:
    assert model_facts("lmsys/vicuna-13b-v1.5") == ModelFacts("vicuna", 13, "1.5")
    assert model_facts("lmsys/vicuna-13b-v1.5@abc") == ModelFacts("vicuna", 13, "1.5")
    assert model_facts("vicuna-13b-v1.5") is model_facts("lmsys/vicuna-13b-v1.5-16k") is None


def test_versions_that_differ_are_different_models_and_one_not_stated_is_any() -> None:
    old, new, any_version = (ModelFacts("vicuna", 7, version) for version in ("1.3", "1.5", ""))
    assert not old.is_same(new) and old.is_as_large(new)
    assert any_version.is_same(old) and new.is_same(any_version)
    assert not old.is_same(ModelFacts("vicuna", 13, "1.3"))


def test_the_table_has_the_size_of_every_shape_that_it_names() -> None:
    """In billions as names round them: Llama 3.2 1B has 1.24 billion parameters."""
    billions = {row["name"]: row["parameters_m"] / 1e3 for row in shape_rows()}
    known = {name: facts.billions for name in billions if (facts := model_facts(name))}
    assert len(known) == 10
    assert {name: round(size / billions[name]) for name, size in known.items()} == dict.fromkeys(known, 1)


def test_every_paper_s_targets_are_stated() -> None:
    table = published()
    for paper, target in set(zip(table["paper"], table["target"], strict=True)):
        assert target_models(paper, target), (paper, target)
    for paper in set(table["paper"]):
        assert {m.method for m in paper_methods(paper)} <= set(published(paper)["method"])


def test_the_same_model_under_another_name() -> None:
    assert same_model("demo-draft", ["demo-draft-sft", "demo-draft"]) == "demo-draft"
    assert same_model("demo-draft-sft", ["demo-draft"]) is None
    assert same_model("shape:demo-s", ["demo-m", "demo-s"]) == "demo-s"
    assert same_model("shape:vicuna-7b", ["lmsys/vicuna-13b-v1.5", "lmsys/vicuna-7b-v1.5"]) == "lmsys/vicuna-7b-v1.5"
    assert same_model("lmsys/vicuna-7b-v1.5", ["lmsys/vicuna-7b-v1.3"]) is None
    assert same_model("shape:vicuna-7b", ["lmsys/vicuna-7b-v1.3", "lmsys/vicuna-7b-v1.5"]) is None
    assert same_model("demo-l", ["demo-s"]) is None
