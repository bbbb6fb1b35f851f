"""The suffix drafter against its definition: counting in the context and the datastore at every step."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from specbench_s2d.decoding.drafters import suffix
from specbench_s2d.decoding.spec import build_decoder, parse_decoder
from specbench_s2d.decoding.suffix_index import BYTES_PER_TOKEN
from specbench_s2d.errors import UserError
from tests.decoding.drafters.contexts import SAMPLER, drafter_of, proposals, repetitive
from tests.decoding.fixed_output import PROMPT, FixedOutput
from tests.refusals import refused


def continued(
    texts: Sequence[Sequence[int]], context: Sequence[int], min_match: int, max_match: int, min_share: float,
    factor: float, gamma: int,
) -> list[int]:  # fmt: skip
    """By the definition. `texts`: the datastore, if any, then the context; of equal counts the later place counts."""

    def following(part: Sequence[int]) -> list[int]:
        """What follows each occurrence of `part`, in order."""
        n = len(part)
        return [text[i + n] for text in texts for i in range(len(text) - n) if list(text[i : i + n]) == list(part)]

    lengths = range(min(max_match, len(context)), min_match - 1, -1)
    matched = next((n for n in lengths if following(context[len(context) - n :])), 0)
    found: list[int] = []
    while matched and len(found) < min(int(factor * matched), gamma):
        part = [*context[len(context) - matched :], *found][-max_match:]
        after = following(part)
        if not after:
            break
        latest = {token: i for i, token in enumerate(after)}
        best = max(latest, key=lambda token: (after.count(token), latest[token]))
        if after.count(best) / len(after) < min_share:
            break
        found.append(best)
    return found


OPTIONS = [(2, 64, 0.3, 2.0, 16), (1, 3, 0.0, 4.0, 20), (3, 5, 0.6, 1.5, 9), (1, 1, 0.3, 3.0, 5)]


def label_of(options: tuple[int, int, float, float, int]) -> str:
    names = ("min_match", "max_match", "min_share", "factor", "gamma")
    return "suffix:" + ",".join(f"{name}={value}" for name, value in zip(names, options, strict=True))


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("seed", range(8))
def test_every_proposal_equals_counting_in_the_context(seed: int, options: tuple[int, int, float, float, int]) -> None:
    context, found = repetitive(seed, 110, vocabulary=2 + seed % 5), 0
    for length, proposal in proposals(label_of(options), context, prompt=1 + seed):
        expected = continued([context[:length]], context[:length], *options)
        assert proposal.ids_G.tolist() == expected
        found += len(expected)
    assert found > 30


class Words:
    """A tokenizer of numbers."""

    def encode(self, text: str, add_special_tokens: bool = True, verbose: bool = True) -> list[int]:
        assert not add_special_tokens
        return list(map(int, text.split()))


def with_datastore(decoder: str, ids: Sequence[int], folder: Path) -> tuple[Any, str]:
    file = folder / "words.txt"
    file.write_text(" ".join(map(str, ids)), encoding="utf-8")
    decoder += f"{',' if ':' in decoder else ':'}datastore={file}"
    drafter = drafter_of(decoder)
    drafter.prepare(SimpleNamespace(tokenizer=Words()), [])
    return drafter, decoder


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("seed", range(6))
def test_with_a_datastore_both_texts_are_counted(
    seed: int, options: tuple[int, int, float, float, int], tmp_path: Path
) -> None:
    vocabulary = 2 + seed % 4
    context, stored = repetitive(seed, 70, vocabulary), repetitive(seed + 50, 60, vocabulary)
    drafter, _ = with_datastore(label_of(options), stored, tmp_path)
    drafter.start(context[:5], SAMPLER)
    differ = 0
    for length in range(6, len(context) + 1):
        proposal = drafter.propose(context[:length], 1_000)
        expected = continued([stored, context[:length]], context[:length], *options)
        assert proposal.ids_G.tolist() == expected
        differ += expected != continued([context[:length]], context[:length], *options)
    assert differ, "the datastore made no difference"


def test_a_datastore_is_indexed_once_and_named_in_the_manifest(tmp_path: Path) -> None:
    drafter, _ = with_datastore("suffix", [1, 2, 3, 1, 2, 3], tmp_path)
    index = drafter._datastore
    drafter.prepare(SimpleNamespace(tokenizer=None), [])
    assert drafter._datastore is index
    assert drafter.facts() == {"datastore_tokens": 6}


def test_a_datastore_counts_by_what_it_holds(tmp_path: Path) -> None:
    """Its hash, which keys of cells depend on; inside `first` too."""
    found = set()
    for words in ([1, 2, 3], [4, 5], [1, 2, 3]):
        _, decoder = with_datastore("suffix", words, tmp_path)
        spec, first = parse_decoder(decoder), parse_decoder(f"first({decoder}|lookup)")
        (sha256,) = spec.kind.data_hashes(spec.options, None).values()
        assert list(first.kind.data_hashes(first.options, None).values()) == [sha256]
        found.add(sha256)
    assert len(found) == 2
    assert parse_decoder("suffix").kind.data_hashes(parse_decoder("suffix").options, None) == {}


def test_a_datastore_is_checked_when_it_is_named_and_not_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Later there may be less memory free, for its index is there; and reading it again would cost as much."""
    _, decoder = with_datastore("suffix", [1, 2, 3], tmp_path)
    spec = parse_decoder(decoder)
    monkeypatch.setattr(suffix, "check_datastore", lambda *_: pytest.fail("checked again"))
    built = spec.build(FixedOutput([1, 2, 3]), None)
    assert built.target_passes(built.options) == built.drafter.target_passes(built.options)  # type: ignore[attr-defined]


def test_the_planned_memory_grows_with_context_and_datastore(tmp_path: Path) -> None:
    _, decoder = with_datastore("suffix", [1, 2, 3], tmp_path)
    plain, stored = parse_decoder("suffix"), parse_decoder(decoder)
    assert plain.kind.host_bytes(plain.options, 32_768) == 32_768 * BYTES_PER_TOKEN
    assert stored.kind.host_bytes(stored.options, 10) > plain.kind.host_bytes(plain.options, 10)


def test_what_repeats_is_written_in_few_steps() -> None:
    output = [5, 6, 7, 8, 1, 5, 6, 7, 8, 1, 5, 6, 7, 8, 1]
    generation = build_decoder("suffix", FixedOutput(output)).generate(PROMPT, max_new_tokens=len(output))
    assert generation.ids == output
    assert [len(step.drafted) for step in generation.steps] == [0, 0, 0, 0, 0, 0, 4, 5]


REFUSED = {
    "suffix:min_match=0": "min_match=0",
    "suffix:max_match=257": "max_match=257",
    "suffix:min_match=5,max_match=4": "max_match=4: at least min_match (5)",
    "suffix:min_share=1.5": "min_share=1.5",
    "suffix:factor=0": "factor=0",
    "suffix:factor=inf": "factor=inf",
    "suffix:gamma=64": "gamma=64",
    "suffix:datastore=nowhere.txt": "datastore=nowhere.txt: cannot be read (No such file or directory)",
}


@pytest.mark.parametrize("given", REFUSED)
def test_options_out_of_range_are_refused_in_one_line(given: str) -> None:
    with refused(UserError, REFUSED[given]):
        parse_decoder(given)
