"""What is said of a model that is used all the same: what ends its answers."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from specbench_s2d.decoding.spec import build_decoder
from specbench_s2d.models import load_model
from specbench_s2d.models.remarks import head_remarks, load_facts, remarks
from specbench_s2d.models.resolve import ResolvedModel, resolve_model
from tests.tiny import write_padded


def with_eos(model: Path, out: Path, eos: object, rows: int = 0) -> ResolvedModel:
    """A copy whose files all name `eos`, of which the tokenizer names none."""
    if rows:
        write_padded(model, out, rows)
    else:
        shutil.copytree(model, out)
    for file, name in (("config.json", "eos_token_id"), ("generation_config.json", "eos_token_id")):
        content = json.loads((out / file).read_text(encoding="utf-8"))
        (out / file).write_text(json.dumps({**content, name: eos}), encoding="utf-8")
    content = json.loads((out / "tokenizer_config.json").read_text(encoding="utf-8"))
    (out / "tokenizer_config.json").write_text(json.dumps({**content, "eos_token": None}), encoding="utf-8")
    found = resolve_model(str(out))
    assert found.tokenizer.eos_token_id is None
    return found


def test_ids_outside_the_vocabulary_are_left_out_and_said_by_us(
    tiny_models: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    found = with_eos(tiny_models / "tiny-target", tmp_path / "odd", [7, 320, 151_645, -1])
    assert found.eos_ids == {7} == load_model(found, "cpu").eos_ids
    assert remarks(found) == ["odd: EOS -1, 320, 151645 left out: its ids are 0 to 319."]
    assert remarks(found, is_draft=True) == remarks(found, ignore_eos=True) == []
    assert load_facts(found) == {"eos_ids_outside": [-1, 320, 151_645]}
    assert "eos_token_id" not in caplog.text + "".join(capfd.readouterr())


def test_an_eos_among_padding_rows_is_outside(tiny_models: Path, tmp_path: Path) -> None:
    found = with_eos(tiny_models / "tiny-target", tmp_path / "odd", [7, 325], rows=19)
    assert found.eos_ids == {7} and found.eos_ids_outside == (325,)


@pytest.mark.parametrize("eos", [None, []])
def test_no_eos_at_all_is_said_once(tiny_models: Path, tmp_path: Path, eos: object) -> None:
    found = with_eos(tiny_models / "tiny-target", tmp_path / "endless", eos)
    (line,) = remarks(found)
    assert line == (
        "endless: no EOS in config.json, generation_config.json or tokenizer; answers end at --max-new-tokens alone."
    )
    generation = build_decoder("ar", load_model(found, "cpu")).generate([5, 6, 7], 30)
    assert (generation.stop, len(generation.ids)) == ("length", 30)
    with pytest.warns(UserWarning, match="endless: no EOS"):
        load_model(str(tmp_path / "endless"), "cpu")


def test_a_model_of_which_all_eos_are_outside_says_both(tiny_models: Path, tmp_path: Path) -> None:
    found = with_eos(tiny_models / "tiny-target", tmp_path / "odd", 999)
    assert [line.split(";")[0] for line in remarks(found)] == [
        "odd: EOS 999 left out: its ids are 0 to 319.",
        "odd: no EOS in config.json, generation_config.json or tokenizer",
    ]


def test_most_models_need_no_word(tiny_models: Path) -> None:
    found = resolve_model(str(tiny_models / "tiny-target"))
    assert remarks(found) == [] and load_facts(found) == {}


def test_a_head_that_was_trained_for_another_target_is_said() -> None:
    head, own, other = (resolve_model(name) for name in ("demo-m-eagle", "demo-m", "demo-s"))
    (said,) = head_remarks(head, other)
    assert "trained on the states of demo-m, and demo-s is the target" in said
    assert head_remarks(head, own) == head_remarks(other, own) == []
