"""The record: one JSON line per (target, decoder label, question, turn, repeat, launch). Units stand in the names."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from specbench_s2d.errors import RecordSchemaError
from specbench_s2d.measure.divergence import Divergence

SCHEMA_VERSION = 2
"""Of records and manifests that are new. Schema 1 differs in the keys of its cells alone, and is read for good."""
SCHEMAS = (1, SCHEMA_VERSION)
BASELINE = "ar"
"""The label that every speed-up and every audit of a run is against."""
ENERGY_FIELDS = ("energy_j", "energy_net_j", "energy_trace_j")
"""Of a record: joules by the counter, the same less idle power, and by integrating sampled power."""
ANOTHER_TURN_FAILED = "an earlier turn of this conversation has no answer"


class Record(BaseModel):
    """One turn, decoded once. Fields that nothing measured are None; `reasons` says why, by field name.

    `launch`: the fresh process, from 0, that loaded, warmed up and measured it. `device_id`: what it was measured on (a
    GPU's UUID, or `cpu:` and a hash of the host), None in older records and in imported ones.
    `projected`: what makes the cell a projection (random weights, scripted acceptances or exits); its output then means
    nothing, and its times are those of such a model, not of one that answers.
    `levels_per_step`: how deep each proposal was, which for a chain is its tokens and for a tree its levels.
    `bound_s`: seconds that the Steps' passes need to read their weights and caches at the device's measured read rate.
    `tie_positions`: new tokens, from 0, where the target's two best logits lie within the measured noise.
    `quality`: each metric of the suite for this one answer; `quality_counts`: what metrics of whole corpora sum over
    answers. `exit_depths`: one per drafted token. `draft_layers`: layers x tokens that the draft ran after its prefill.
    `energy_s`: seconds between the two readings of the energy counter, where the timed window itself was metered; None
    where `energy_j` is the share of a block.
    """

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    run_id: str
    schema_version: int = SCHEMA_VERSION
    key: str
    status: Literal["ok", "failed", "skipped"]
    error: str | None = None

    target: str
    decoder: str
    label: str
    draft: str | None = None
    decoder_options: dict[str, Any]
    lossy: bool
    projected: str | None = None
    suite: str
    category: str
    question_id: int | str
    turn: int
    repeat: int
    launch: int = 0
    device_id: str | None = None
    seed: int | None
    replay_turns: Literal["own", "ar"] = "own"

    prompt_hash: str | None = None
    prompt_tokens: int | None = None
    prompt_truncated: bool = False
    new_tokens: int | None = None
    retokenized_tokens: int | None = None
    stop: Literal["eos", "length"] | None = None
    output_ids: list[int] | None = Field(default=None, min_length=1)
    output_text: str | None = None

    prefill_s: float | None = None
    decode_s: float | None = None
    total_s: float | None = None
    draft_s: float | None = None
    verify_s: float | None = None
    other_s: float | None = None
    bound_s: float | None = None

    target_passes: int | None = None
    drafted: int | None = None
    accepted: int | None = None
    drafted_per_step: list[int] | None = None
    accepted_per_step: list[int] | None = None
    emitted_per_step: list[int] | None = None
    levels_per_step: list[int] | None = None
    exit_depths: list[int] | None = None
    draft_layers: int | None = None

    nll_sum: float | None = None
    perplexity: float | None = None
    quality: dict[str, float | None] | None = None
    quality_counts: dict[str, list[int]] | None = None
    divergence: Divergence | None = None
    tie_positions: list[int] | None = None
    energy_j: float | None = None
    energy_net_j: float | None = None
    energy_trace_j: float | None = None
    energy_s: float | None = None
    reasons: dict[str, str] = {}

    def updated(self, **fields: Any) -> Record:
        """The record with other values, validated as a new one is."""
        return Record.model_validate({**dict(self), **fields})


def is_failed(record: Record) -> bool:
    """Whether a retry should run the record's cell again: it failed, or it had no answer to build on."""
    return record.status == "failed" or record.error == ANOTHER_TURN_FAILED


def parse_record(row: Any, where: str) -> Record:
    """A record from its JSON object; raises `RecordSchemaError` for a version this code does not read, `TypeError` for
    what is no object."""
    if not isinstance(row, dict):
        raise TypeError("it is no JSON object")
    check_schema(row.get("schema_version"), where)
    return Record.model_validate(row)


def check_schema(version: Any, where: str) -> None:
    """Raise `RecordSchemaError` for a schema version that this code does not read."""
    if version not in SCHEMAS:
        known = " and ".join(map(str, SCHEMAS))
        raise RecordSchemaError(
            f"{where}: schema version {version}; this code reads {known}. "
            "Read it with the release that wrote it, or run again into another folder."
        )
