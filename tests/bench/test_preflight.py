"""What is checked before anything is loaded: options of decoders that no run has use for."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest

from specbench_s2d import registry
from specbench_s2d.bench.preflight import check_useful, set_up
from specbench_s2d.decoding.spec import parse_decoder
from specbench_s2d.errors import UserError
from specbench_s2d.models.heads.shape import HEADS
from specbench_s2d.models.resolve import resolve_model
from tests.refusals import refused
from tests.tiny_run import tiny_plan


@pytest.mark.parametrize(
    ("decoder", "said"),
    [
        ("sd:gamma=100000", "drafts of 100,000 tokens; with --max-new-tokens 16 none above 96 is of use"),
        ("s2d:gamma=97", "drafts of 97 tokens"),
        (
            "mjsd:beams=100000",
            "its trees or beams take 300,000 positions of tiny-nested, whose cache has at most 4,192",
        ),
        ("s2d-tree:depth=100000", "its trees or beams take 1,000,0"),
        ("mjgd:k=100000", "its trees or beams take 799,992 positions of tiny-target"),
    ],
)
def test_options_beyond_all_use_are_refused_before_weights_load(decoder: str, said: str, tiny_models: Path) -> None:
    plan = tiny_plan(tiny_models, ["ar", decoder], draft=["tiny-nested"], limit=1, max_new_tokens=16)
    with refused(UserError, f"decoder '{decoder}': ", said, "give smaller options"):
        set_up(plan, plan.spec.target[0])


@pytest.mark.parametrize("decoder", ["sd:gamma=96", "s2d:gamma=heuristic", "mjsd:beams=500", "s2d-tree:tokens=500"])
def test_options_that_can_be_of_use_are_taken(decoder: str, tiny_models: Path) -> None:
    plan = tiny_plan(tiny_models, ["ar", decoder], draft=["tiny-nested"], limit=1, max_new_tokens=16)
    assert set_up(plan, plan.spec.target[0]).faults == {}


HARMLESS = {
    "draft_top_k",  # of as many tokens as there are, all are kept
    "draft_temperature",  # draws from all tokens alike
    "factor",  # tokens per token matched, at most gamma all the same
    "tokens",  # of a tree: no more than its depth and width give
}


def check_size(text: str, tiny_models: Path) -> None:
    """Plan and set up a run with the decoder; of a draft head's, where none is at hand, its target's passes alone."""
    spec = parse_decoder(text)
    if spec.kind.draft_kind in HEADS:
        check_useful(spec.kind.target_passes(spec.options), text, resolve_model("demo-s"), 16)
        return
    plan = tiny_plan(tiny_models, ["ar", text], draft=["tiny-nested"], limit=1, max_new_tokens=16)
    set_up(plan, plan.spec.target[0])


@pytest.mark.parametrize("name", registry.decoders.names())
def test_every_size_of_every_decoder_has_an_end(name: str, tiny_models: Path) -> None:
    kind = parse_decoder(name).kind
    for option, field in kind.Options.model_fields.items():
        if kind.draft_kind in HEADS and option == "draft_vocabulary":
            continue  # held to the head's own ids
        if option not in HARMLESS and {int, float} & {*get_args(field.annotation), field.annotation}:
            with pytest.raises(UserError, match=f"{option}=1000000|draft tiny-nested"):
                check_size(f"{name}:{option}=1000000", tiny_models)
