"""Decoders by name: parsing, labels, pairs, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from specbench_s2d import registry
from specbench_s2d.decoding.autoregressive import Autoregressive
from specbench_s2d.decoding.drafters.chain import ChainDrafter
from specbench_s2d.decoding.drafters.none import NoDrafter
from specbench_s2d.decoding.spec import build_decoder, describe_decoders, parse_decoder, parse_decoders, without_draft
from specbench_s2d.decoding.speculative import SpeculativeDecoding
from specbench_s2d.decoding.verifiers.token import TokenVerifier
from specbench_s2d.errors import UnknownNameError, UserError
from tests.fakes import FakeModel
from tests.refusals import refused

NAMES = "ar, eagle, lookup, medusa, mjgd, mjsd, recycling, s2d, s2d-auto, s2d-tree, sd, suffix"


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("ar", "ar"),
        ("sd", "sd"),
        (" sd ", "sd"),
        ("sd:gamma=5", "sd"),  # a default is not part of the label
        ("mjsd:draft_temperature=1.0,tau=0.50", "mjsd:draft_temperature=1"),
        ("sd:gamma=3", "sd:gamma=3"),
        ("sd:gamma=heuristic", "sd:gamma=heuristic"),
        ("sd:sampling=greedy,gamma=3", "sd:gamma=3,sampling=greedy"),  # the class's order, not the text's
        ("sd: gamma = 3", "sd:gamma=3"),
        ("sd:draft=demo-tiny,sampling=run", "sd:draft=demo-tiny"),
    ],
)
def test_a_label_is_the_name_with_what_differs_from_the_defaults(text: str, label: str) -> None:
    spec = parse_decoder(text)
    assert spec.label == label
    assert parse_decoder(spec.label) == spec


def test_options_are_typed() -> None:
    spec = parse_decoder("sd:draft=demo-tiny,gamma=3")
    assert spec.kind is SpeculativeDecoding
    assert spec.options.model_dump() == {
        "gamma": 3,
        "sampling": "run",
        "exit": None,
        "draft_vocabulary": None,
        "vocabulary_from": None,
        "draft": "demo-tiny",
    }
    assert spec.draft == "demo-tiny"
    assert parse_decoder("ar").draft is None


def test_a_list_of_names_a_decoder_with_options_and_no_decoder_twice() -> None:
    specs = parse_decoders(["ar,sd", "sd:gamma=3,sampling=greedy", "sd:gamma=5", "ar"])
    assert [spec.label for spec in specs] == ["ar", "sd", "sd:gamma=3,sampling=greedy"]


@pytest.mark.parametrize("texts", [[], [""], [","]])
def test_no_decoder_at_all_is_refused(texts: list[str]) -> None:
    with refused(UserError, NAMES):
        parse_decoders(texts)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("spd", ["decoder 'spd'", "Did you mean 'sd'", NAMES]),
        ("", ["decoder ''", NAMES]),
        ("sd:gama=3", ["option of decoder 'sd'", "'gama'", "Did you mean 'gamma'", "sampling"]),
        ("ar:gamma=3", ["option of decoder 'ar'", "'gamma'", "no options"]),
        ("sd:gamma", ["'gamma' is not option=value"]),
        ("sd:gamma=", ["'gamma=' is not option=value"]),
        ("sd:gamma=3,gamma=4", ["'gamma' is given twice"]),
        ("sd:gamma=0", ["gamma=0", "greater than or equal to 1", "'heuristic'"]),
        ("sd:gamma=2.5", ["gamma=2.5", "integer", "'heuristic'"]),
        ("sd:gamma=fast", ["gamma=fast", "'heuristic'"]),
        ("sd:sampling=beam", ["sampling=beam", "'run'", "'greedy'"]),
        ("chain+tokn", ["verifier 'tokn'", "Did you mean 'token'"]),
        ("chian+token", ["drafter 'chian'", "Did you mean 'chain'"]),
        ("chain+", ["verifier ''", "token"]),
    ],
)
def test_what_cannot_be_parsed_is_refused_in_one_line(text: str, parts: list[str]) -> None:
    with refused(UserError, *parts):
        parse_decoder(text)


@pytest.mark.parametrize("text", ["mjsd:draft_top_k=9223372036854775808", "suffix:factor=1e300"])
def test_numbers_that_no_record_can_hold_are_refused(text: str) -> None:
    with refused(UserError, f"{text.partition(':')[2]}: input should be less than 2^63"):
        parse_decoder(text)


def test_options_behind_a_list_of_names_are_refused_with_how_to_write_it() -> None:
    with refused(UserError, "write --decoder ar --decoder sd:gamma=3"):
        parse_decoder("ar,sd:gamma=3")
    with refused(UserError, "write --decoder ar,lookup,suffix --decoder sd:gamma=3."):
        parse_decoder("ar,sd:gamma=3,lookup,suffix")


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("sd,gamma=3", "write sd:gamma=3."),
        ("sd gamma=3", "write sd:gamma=3."),
        ("sd, gamma=3 sampling=greedy", "write sd:gamma=3,sampling=greedy."),
        ("ar,sd,gamma=3", "write --decoder ar --decoder sd:gamma=3."),
        ("gamma=3", "write NAME:gamma=3."),
    ],
)
def test_options_without_a_colon_are_refused_with_how_to_write_them(text: str, written: str) -> None:
    with refused(UserError, f"decoder {text!r}: options stand after a colon; ", written):
        parse_decoders([text])


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("SD", "sd"),
        ("S2D-Tree", "s2d-tree"),
        ("s2d_auto", "s2d-auto"),
        ("look:gamma=3", "lookup:gamma=3"),
        ("PLD", "lookup"),
        ("vanilla", "ar"),
        ("Chain+TOKEN:gamma=2", "chain+token:gamma=2"),
        ("first(lookup|sd)", "first(lookup|sd)"),
    ],
)
def test_a_name_may_be_spelled_otherwise_and_the_label_is_the_registered_one(text: str, label: str) -> None:
    assert parse_decoder(text).label == label


def test_the_decoders_without_a_draft_are_listed_by_their_classes() -> None:
    assert without_draft() == ["ar", "mjgd", "lookup", "suffix", "recycling"]


def test_an_unknown_decoder_is_an_unknown_name() -> None:
    with refused(UnknownNameError):
        parse_decoder("no-such-decoder")


@pytest.mark.parametrize("name", ["chain+token", "sd+token", "chain+sd", "sd+sd", "sd+ar"])
def test_any_drafter_and_verifier_make_a_decoder(name: str) -> None:
    spec = parse_decoder(f"{name}:gamma=2")
    assert spec.label == f"{name}:gamma=2"
    assert (spec.kind.drafter_class, spec.kind.verifier_class) == (ChainDrafter, TokenVerifier)
    assert (spec.kind.draft_kind, spec.kind.lossy) == ("plain", False)
    expected = build_decoder("sd:gamma=2", FakeModel(), FakeModel(seed=1)).generate([1], 20)
    actual = build_decoder(f"{name}:gamma=2", FakeModel(), FakeModel(seed=1)).generate([1], 20)
    assert actual.ids == expected.ids
    assert [s.drafted for s in actual.steps] == [s.drafted for s in expected.steps]


def test_the_empty_drafter_with_the_token_rule_is_ar() -> None:
    spec = parse_decoder("none+token")
    assert spec.kind.drafter_class is NoDrafter
    assert spec.kind.draft_kind == "none"
    assert (
        build_decoder("none+token", FakeModel()).generate([1], 9).ids
        == build_decoder("ar", FakeModel()).generate([1], 9).ids
    )


def test_keywords_and_the_command_lines_string_build_the_same() -> None:
    by_keyword = build_decoder("sd", target=FakeModel(), draft=FakeModel(seed=1), gamma=3, sampling="greedy")
    by_string = build_decoder("sd:gamma=3,sampling=greedy", FakeModel(), FakeModel(seed=1))
    assert by_keyword.label == by_string.label == "sd:gamma=3,sampling=greedy"
    assert by_keyword.options == by_string.options
    assert isinstance(by_keyword, SpeculativeDecoding)
    assert isinstance(build_decoder("ar", FakeModel()), Autoregressive)


def test_options_in_both_places_are_refused() -> None:
    with refused(UserError, "sd:gamma=3", "not both"):
        build_decoder("sd:gamma=3", FakeModel(), FakeModel(seed=1), sampling="greedy")


def test_a_wrong_keyword_is_refused_as_on_the_command_line() -> None:
    with refused(UserError, "'gama'", "'gamma'"):
        build_decoder("sd", FakeModel(), FakeModel(seed=1), gama=3)
    with refused(UserError, "gamma=-1"):
        build_decoder("sd", FakeModel(), FakeModel(seed=1), gamma=-1)


def test_a_missing_draft_is_refused_with_how_to_give_one() -> None:
    with refused(UserError, "'sd:gamma=3' needs a draft model; give draft=load_model('NAME')."):
        build_decoder("sd:gamma=3", FakeModel())


def test_another_draft_than_the_named_one_is_refused() -> None:
    with refused(UserError, "'demo-tiny'", "'fake-1'"):
        build_decoder("sd:draft=demo-tiny", FakeModel(), FakeModel(seed=1))
    assert build_decoder("sd:draft=fake-1", FakeModel(), FakeModel(seed=1)).label == "sd:draft=fake-1"


def _no_file() -> object:
    raise OSError("no such file")


@pytest.mark.parametrize(
    ("hashed", "told"),
    [
        (_no_file, "OSError: no such file."),
        (lambda: None, "TypeError: None is no dict of str."),
        (lambda: {"words": 5}, "TypeError: {'words': 5} is no dict of str."),
    ],
)
def test_a_class_that_cannot_hash_its_data_is_refused(hashed: Callable[[], object], told: str) -> None:
    class Files(NoDrafter):
        @staticmethod
        def data_hashes(options: object, draft: object) -> object:
            return hashed()

    spec = parse_decoder("ar")
    with refused(UserError, f"decoder 'ar': the hashes of its data are not known, for that raised {told}"):
        _ = replace(spec, kind=type("Own", (spec.kind,), {"drafter_class": Files})).data_hashes(None)


def test_every_registered_part_is_described() -> None:
    rows = {(row["kind"], row["name"]): row for row in describe_decoders()}
    for parts in (registry.decoders, registry.drafters, registry.verifiers):
        assert {name for kind, name in rows if kind == parts.kind} == set(parts.names())
    assert rows["decoder", "sd"]["output"] == "lossless"
    assert rows["decoder", "sd"]["draft"] == "plain"
    assert "gamma=5" in rows["decoder", "sd"]["options"]
    assert rows["decoder", "ar"]["options"] == "none"
    assert all(row["what"] for row in rows.values())


@pytest.mark.parametrize("given", ["fake-1", "some/folder/fake-1", "some/folder/fake-1/", "fake-1@main"])
def test_a_named_draft_may_be_given_as_name_folder_or_revision(given: str) -> None:
    decoder = build_decoder(f"sd:draft={given}", FakeModel(seed=0), FakeModel(seed=1))
    assert decoder.draft is not None and decoder.draft.name == "fake-1"
