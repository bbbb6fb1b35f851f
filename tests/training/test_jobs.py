"""From chats and a start to a finished Hugging Face folder with its card."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from transformers import AutoModelForCausalLM, AutoTokenizer, GPT2Config, GPT2LMHeadModel, PreTrainedModel

from specbench_s2d.errors import ModelError, RunFolderError, UnknownNameError, UserError
from specbench_s2d.models.chat import TEMPLATES, ChatTemplate
from specbench_s2d.models.token_ranking import RANKING_FILE
from specbench_s2d.resources import demo_folder
from specbench_s2d.training.checkpoint import CHECKPOINT
from specbench_s2d.training.data import encode_chats
from specbench_s2d.training.init_model import (
    ModelSize,
    ModelSource,
    init_model,
    lm_source,
    load_tokenizer,
    new_model,
    resolve_source,
)
from specbench_s2d.training.jobs import Corpus, claim, train_model, work_folder
from specbench_s2d.training.ranking import rank_tokens
from specbench_s2d.training.spec import TrainSpec
from specbench_s2d.training.tokenizer import SPECIAL_TOKENS, save_tokenizer, train_tokenizer
from specbench_s2d.training.trainer import Progress, train
from tests.refusals import refused
from tests.vicuna import BIN_FORMS, tiny_llama, write_vicuna

from .factory import CONTEXT, SIZE, VOCABULARY, chat, sums, tiny_spec, tiny_tokenizer, write_chats

NEW = ModelSource("new", size=SIZE)


@pytest.fixture
def corpus(tmp_path: Path) -> Corpus:
    return Corpus([str(write_chats(tmp_path / "sums.jsonl", sums(200)))])


def lm_spec(steps: int = 6, **changed: Any) -> TrainSpec:
    """Sequences long enough that held-out chats keep answer tokens."""
    return tiny_spec(**{"steps": steps, "length": 40, "tokens": steps * 160, **changed})


def job(corpus: Corpus, out: Path, start: ModelSource = NEW, **given: Any) -> dict[str, Any]:
    fields = {"spec": lm_spec(), "command": "specbench-s2d train lm --out it", **given}
    return train_model(out.name, start, tiny_tokenizer(), corpus, out=out, **fields)


# The finished folder


def test_the_finished_folder_loads_in_plain_transformers(corpus: Corpus, tmp_path: Path) -> None:
    out = tmp_path / "it"
    job(corpus, out)
    model = AutoModelForCausalLM.from_pretrained(str(out), dtype="auto")
    tokenizer = AutoTokenizer.from_pretrained(str(out))
    assert model.dtype == torch.bfloat16
    with safe_open(str(out / "model.safetensors"), "pt") as weights:
        assert {weights.get_tensor(name).dtype for name in weights.keys()} == {torch.bfloat16}  # noqa: SIM118
    assert model.config.num_hidden_layers == 2 and model.config.max_position_embeddings == CONTEXT
    assert model.config.eos_token_id == tokenizer.eos_token_id
    prompt = tokenizer.apply_chat_template(chat("hi", "").messages[:1], tokenize=False, add_generation_prompt=True)
    assert prompt == "<|bos|><|user|>hi<|assistant|>"
    ids = torch.tensor([tokenizer.encode(prompt, add_special_tokens=False)])
    assert model.generate(ids, max_new_tokens=3, do_sample=False).shape[1] > ids.shape[1]


def test_the_saved_weights_are_the_trained_ones_rounded(corpus: Corpus, tmp_path: Path) -> None:
    trained: list[dict[str, torch.Tensor]] = []

    def remember(model: PreTrainedModel, *given: Any) -> Any:
        rows = train(model, *given)
        trained.append({n: p.detach().clone() for n, p in model.named_parameters()})
        return rows

    job(corpus, tmp_path / "it", trainer=remember)
    saved = dict(AutoModelForCausalLM.from_pretrained(str(tmp_path / "it"), dtype="auto").named_parameters())
    assert all(torch.equal(saved[name], weight.bfloat16()) for name, weight in trained[0].items())


def test_nothing_but_the_finished_folder_is_left(corpus: Corpus, tmp_path: Path) -> None:
    job(corpus, tmp_path / "it")
    assert {path.name for path in tmp_path.iterdir()} == {"sums.jsonl", "it"}


def test_the_facts_and_the_card_come_from_the_run(corpus: Corpus, tmp_path: Path) -> None:
    out = tmp_path / "it"
    facts = job(corpus, out, spec=lm_spec(steps=6, loss_on="answers"))
    assert facts == json.loads((out / "training.json").read_text())
    assert facts["tokens"] == 6 * 160 and facts["steps"] == 6
    assert [p["tokens"] for p in facts["loss_curve"]] == [800, 960]
    assert {suite: row["chats"] for suite, row in facts["data"].items()} == {
        suite: sum(c.suite == suite for c in corpus.training) for suite in ("math", "qa")
    }
    for suite, nll in facts["validation_nll"].items():
        assert facts["validation_perplexity"][suite] == pytest.approx(math.exp(nll))
    card = (out / "README.md").read_text()
    for said in (
        "benchmarking decoding methods",
        "random weights, 2 layers",
        "`specbench-s2d train lm --out it`",
        "tokens: 960; loss on answers alone",
        f"| math | {facts['data']['math']['chats']} | {facts['data']['math']['tokens']:,} |",
        f"| all | {facts['validation_nll']['all']:.3f} | {facts['validation_perplexity']['all']:.2f} |",
        f"| 960 | {facts['loss_curve'][-1]['loss']:.3f} | {facts['validation_nll']['all']:.3f} |",
        f"- time: {facts['train_s']:.1f} s on",
    ):
        assert said in card


def test_a_draft_says_what_its_source_had_seen(corpus: Corpus, tmp_path: Path) -> None:
    job(corpus, tmp_path / "it")
    facts = job(corpus, tmp_path / "draft", ModelSource("cut", str(tmp_path / "it"), 1), spec=lm_spec(steps=2))
    assert facts["base"] == "the first layer of it"
    assert (facts["tokens"], facts["tokens_inherited"], facts["shape"]["layers"]) == (320, 960, 1)
    assert "320, after the 960 that its source had seen" in (tmp_path / "draft" / "README.md").read_text()


def test_without_held_out_prompts_validation_is_missing_and_not_zero(tmp_path: Path) -> None:
    kept = [c for c in sums(100) if not c.held_out]
    facts = job(Corpus([str(write_chats(tmp_path / "c.jsonl", kept))]), tmp_path / "it")
    assert facts["validation_nll"] == facts["validation_perplexity"] == {}
    assert {point["validation_nll"] for point in facts["loss_curve"]} == {None}
    assert "Not measured" in (tmp_path / "it" / "README.md").read_text()


def test_the_template_trained_with_is_the_template_saved(corpus: Corpus, tmp_path: Path) -> None:
    facts = job(corpus, tmp_path / "it", template="plain")
    assert facts["template"] == "plain"
    assert AutoTokenizer.from_pretrained(str(tmp_path / "it")).chat_template == TEMPLATES["plain"]
    assert tiny_tokenizer().chat_template == TEMPLATES["demo"]  # the one lent stays as it was
    demo, plain = (corpus.encode(ChatTemplate.choose(tiny_tokenizer(), name)) for name in ("demo", "plain"))
    assert demo[0][0].ids.tolist() != plain[0][0].ids.tolist()


def test_a_corpus_is_encoded_once_per_tokenizer_and_template(corpus: Corpus) -> None:
    template = ChatTemplate.choose(tiny_tokenizer())
    assert corpus.encode(template) is corpus.encode(ChatTemplate.choose(tiny_tokenizer(), "demo"))
    other = train_tokenizer(sums(200), VOCABULARY - 20, CONTEXT)  # same empty name, other ids
    assert corpus.encode(ChatTemplate.choose(other)) is not corpus.encode(template)


# Stopping and refusing


def test_a_stopped_job_goes_on_to_the_same_folder(corpus: Corpus, tmp_path: Path) -> None:
    def stop(progress: Progress) -> None:
        if progress.step == 5:
            raise KeyboardInterrupt

    job(corpus, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        job(corpus, tmp_path / "cut", watch=stop)
    assert not (tmp_path / "cut").exists()
    job(corpus, tmp_path / "cut")
    whole, cut = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "cut"))
    assert whole == cut


def test_a_job_does_not_go_on_from_another_start(corpus: Corpus, tmp_path: Path) -> None:
    def stop(progress: Progress) -> None:
        if progress.step == 5:
            raise KeyboardInterrupt

    job(corpus, tmp_path / "a")
    job(corpus, tmp_path / "b", spec=lm_spec(steps=6, seed=1))
    with pytest.raises(KeyboardInterrupt):
        job(corpus, tmp_path / "it", ModelSource("continue", str(tmp_path / "a")), watch=stop)
    with pytest.raises(RunFolderError, match="it does not start from b"):
        job(corpus, tmp_path / "it", ModelSource("continue", str(tmp_path / "b")))
    (work_folder(tmp_path / "it") / CHECKPOINT).unlink()
    job(corpus, tmp_path / "it", ModelSource("continue", str(tmp_path / "b")))


def test_a_folder_that_holds_something_is_not_overwritten(corpus: Corpus, tmp_path: Path) -> None:
    job(corpus, tmp_path / "it", spec=lm_spec(steps=1))
    with pytest.raises(RunFolderError, match="already holds a model; give another --out"):
        job(corpus, tmp_path / "it")
    (tmp_path / "it" / "config.json").unlink()
    with pytest.raises(RunFolderError, match="is not an empty folder"):
        job(corpus, tmp_path / "it")


def test_settings_that_cannot_work_are_one_line(corpus: Corpus, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--length 65: the model's context is 64"):
        job(corpus, tmp_path / "it", spec=lm_spec(length=65))
    for device in ("nonsense", "cuda:99"):
        with pytest.raises(UserError, match=f"--device {device}: not usable here") as caught:
            job(corpus, tmp_path / "it", spec=lm_spec(device=device))
        assert "\n" not in str(caught.value)
    with pytest.raises(UnknownNameError, match=r"unknown template 'plane'. Did you mean 'plain'"):
        job(corpus, tmp_path / "it", template="plane")


# Starts


def test_a_demo_name_is_the_folder_of_that_member() -> None:
    assert resolve_source("demo-s") == str(demo_folder() / "demo-s")
    with pytest.raises(UnknownNameError, match=r"unknown model 'demo-x'. Did you mean 'demo-l', 'demo-m' or 'demo-s'"):
        resolve_source("demo-x")


def test_a_path_that_is_not_there_never_reaches_the_hub() -> None:
    assert resolve_source("owner/name") == "owner/name"
    for name in ("./x", "/x", "a/b/c", "x/"):
        with pytest.raises(ModelError, match="no such folder"):
            resolve_source(name)


def test_a_tokenizer_larger_than_the_models_vocabulary_is_refused(tmp_path: Path) -> None:
    new_model(SIZE, 50, 0, 0, 1).save_pretrained(str(tmp_path / "small"))
    size = len(tiny_tokenizer())
    with pytest.raises(ModelError, match=f"its vocabulary has 50 entries, the tokenizer {size}"):
        init_model(ModelSource("continue", str(tmp_path / "small")), tiny_tokenizer(), 0)


@pytest.mark.parametrize("form", BIN_FORMS)
def test_a_draft_can_be_cut_from_bin_weights_and_a_tokenizer_model(tmp_path: Path, form: str) -> None:
    folder = write_vicuna(tmp_path / "vicuna", BIN_FORMS[form])
    draft = init_model(ModelSource("cut", str(folder), 1), load_tokenizer(str(folder)), 0).state_dict()
    whole = tiny_llama().state_dict()
    assert draft.keys() == {name for name in whole if ".layers.1." not in name}
    assert all(torch.equal(tensor, whole[name]) for name, tensor in draft.items())


def test_a_harmful_bin_is_not_trained_on(tmp_path: Path) -> None:
    folder = write_vicuna(
        tmp_path / "vicuna", lambda state, out: torch.save([eval, torch.ones(2**14)], out / "pytorch_model.bin")
    )
    with pytest.raises(ModelError, match=r"asks for \S*eval.*no code is run"):
        init_model(ModelSource("continue", str(folder)), load_tokenizer(str(folder)), 0)


def test_sources_that_cannot_be_trained_on_are_one_line(tmp_path: Path) -> None:
    GPT2LMHeadModel(GPT2Config(vocab_size=400, n_embd=8, n_layer=1, n_head=1)).save_pretrained(str(tmp_path / "gpt2"))
    new_model(SIZE, 400, 0, 0, 1).save_pretrained(str(tmp_path / "torn"))
    weights = tmp_path / "torn" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    (tmp_path / "empty").mkdir()
    for name, message in {"gpt2": "Llama-family", "torn": "not the checkpoint", "empty": "no config.json"}.items():
        with pytest.raises(ModelError, match=message) as caught:
            init_model(ModelSource("continue", str(tmp_path / name)), tiny_tokenizer(), 0)
        assert "\n" not in str(caught.value)
    (tmp_path / "empty" / "tokenizer.json").write_text("{nope")
    with pytest.raises(ModelError, match=r"no tokenizer there .*`train tokenizer` makes one") as caught:
        load_tokenizer(str(tmp_path / "empty"))
    assert "\n" not in str(caught.value)


def test_shapes_that_llama_cannot_take_are_refused() -> None:
    for width, heads, kv_heads in ((16, 3, 1), (12, 3, 2), (6, 2, 1)):
        with pytest.raises(UserError, match=f"--width {width} --heads {heads} --kv-heads {kv_heads}"):
            new_model(ModelSize(width=width, heads=heads, kv_heads=kv_heads), 20, 0, 0, 1)


def lm_flags(**given: int) -> dict[str, int | None]:
    return {name: given.get(name) for name in ("layers", "width", "heads", "kv_heads", "feed_forward", "context")}


def test_the_flags_of_train_lm_name_one_start() -> None:
    assert lm_source(lm_flags(), None, None) == ModelSource("new", size=ModelSize())
    assert lm_source(lm_flags(layers=2, width=128), None, None).size == ModelSize(layers=2, width=128, heads=2)
    assert lm_source(lm_flags(layers=12), "demo-s", None) == ModelSource("grow", "demo-s", 12)
    assert lm_source(lm_flags(), None, "demo-s") == ModelSource("continue", "demo-s")


def test_flags_of_train_lm_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(UserError, match="--grow-from and --continue-from: give one"):
        lm_source(lm_flags(layers=2), "a", "b")
    with pytest.raises(UserError, match="--grow-from: give the depth to grow to, --layers N"):
        lm_source(lm_flags(), "a", None)
    with pytest.raises(UserError, match="--kv-heads 2: a model that goes on from another keeps that one's kv-heads"):
        lm_source(lm_flags(layers=12, kv_heads=2), "a", None)
    with pytest.raises(UserError, match="--layers 2: "):
        lm_source(lm_flags(layers=2), None, "a")


# The tokenizer


def test_the_tokenizer_gives_back_any_text_and_one_id_per_special_token(tmp_path: Path) -> None:
    save_tokenizer(train_tokenizer(sums(200), VOCABULARY, CONTEXT), tmp_path / "tok")  # type: ignore[arg-type]
    tokenizer = load_tokenizer(str(tmp_path / "tok"))
    for text in ("plain words", " spaces  kept ", "naïve 漢字 🙂", "a\n\tb", "don't , stop ."):
        assert tokenizer.decode(tokenizer.encode(text)) == text
    assert [tokenizer.encode(token) for token in SPECIAL_TOKENS] == [[0], [1], [2], [3]]
    assert len(tokenizer.encode("2026", add_special_tokens=False)) == 4  # digit by digit
    assert len(tokenizer) <= VOCABULARY
    assert tokenizer.model_max_length == CONTEXT
    assert {p.name for p in tmp_path.iterdir()} == {"tok"}


def test_a_vocabulary_below_the_bytes_is_refused() -> None:
    with pytest.raises(UserError, match="--vocabulary 259: at least 260"):
        train_tokenizer(sums(3), 259, CONTEXT)


# The ranking of tokens


def test_a_finished_folder_holds_how_often_each_token_occurs_in_answers(corpus: Corpus, tmp_path: Path) -> None:
    out = tmp_path / "it"
    facts = job(corpus, out)
    stored = json.loads((out / RANKING_FILE).read_text(encoding="utf-8"))
    tokenizer = load_tokenizer(str(out))
    expected = [0] * len(tokenizer)
    for encoded in encode_chats(corpus.training, ChatTemplate.choose(tokenizer)):
        for token, answer in zip(encoded.ids.tolist(), encoded.answer.tolist(), strict=True):
            expected[token] += answer
    assert stored["counts"] == expected
    assert sum(expected) == sum(suite["answer_tokens"] for suite in facts["data"].values())
    assert stored["data"] == facts["data"]


def test_a_ranking_made_later_is_the_one_that_training_stores(tmp_path: Path) -> None:
    data, out = write_chats(tmp_path / "sums.jsonl", sums(200)), tmp_path / "it"
    job(Corpus([str(data)]), out)
    stored = (out / RANKING_FILE).read_bytes()
    (out / RANKING_FILE).unlink()
    counted = rank_tokens(out, [str(data)])
    assert (out / RANKING_FILE).read_bytes() == stored
    counts = json.loads(stored)["counts"]
    assert counted == {"tokens": sum(counts), "seen": sum(count > 0 for count in counts)}


def test_a_ranking_of_what_is_no_model_is_refused(tmp_path: Path) -> None:
    data = str(write_chats(tmp_path / "sums.jsonl", sums(20)))
    with refused(UserError, f"--draft {tmp_path / 'nowhere'}: no such folder; give the folder of a model."):
        rank_tokens(tmp_path / "nowhere", [data])
    with refused(ModelError, "holds no config.json"):
        rank_tokens(tmp_path, [data])


def test_a_work_folder_goes_on_with_what_it_was_begun_for_alone(tmp_path: Path) -> None:
    """The sizes of a draft head are no fields of the specification that a checkpoint keeps."""
    start = ModelSource("continue", "demo-m")
    claim(tmp_path, start, "a head that drafts 3 tokens")
    (tmp_path / CHECKPOINT).touch()
    claim(tmp_path, start, "a head that drafts 3 tokens")
    with refused(RunFolderError, "belongs to another training run", "does not make a head that drafts 2 tokens"):
        claim(tmp_path, start, "a head that drafts 2 tokens")
