"""Train a tokenizer: byte-level BPE (byte-pair encoding) with one token per chat role."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from specbench_s2d.errors import UserError
from specbench_s2d.files import replacing
from specbench_s2d.models.chat import TEMPLATES
from specbench_s2d.training.checkpoint import writing
from specbench_s2d.training.data import Chat

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

SPECIAL_TOKENS = ("<|bos|>", "<|end|>", "<|user|>", "<|assistant|>")
SMALLEST_VOCABULARY = 256 + len(SPECIAL_TOKENS)


def train_tokenizer(chats: list[Chat], vocabulary: int, context: int) -> PreTrainedTokenizerFast:
    """Byte-level BPE of `vocabulary` entries (special tokens first) over the chats' texts.

    Every digit is a token of its own, as in Llama. Raises `UserError` for a vocabulary that is too small.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    if vocabulary < SMALLEST_VOCABULARY:
        raise UserError(
            f"--vocabulary {vocabulary}: at least {SMALLEST_VOCABULARY} (256 bytes and the special tokens)."
        )
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    bpe.train_from_iterator((m["content"] for chat in chats for m in chat.messages), trainer)
    bos, eos, *roles = SPECIAL_TOKENS
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bpe,
        bos_token=bos,
        eos_token=eos,
        additional_special_tokens=roles,
        model_max_length=context,
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = TEMPLATES["demo"]
    return tokenizer


def save_tokenizer(tokenizer: PreTrainedTokenizerFast, out: Path) -> None:
    """Write the tokenizer's folder atomically; raises `RunFolderError` where `out` cannot be written."""
    with writing(out), replacing(out) as partial:
        partial.mkdir(parents=True)
        tokenizer.save_pretrained(str(partial))
