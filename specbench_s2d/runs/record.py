"""The record: one JSON line per (target, decoder label, question, turn, repeat, launch). Units stand in the names."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from specbench_s2d.display import cut
from specbench_s2d.errors import RecordSchemaError
from specbench_s2d.measure.divergence import Divergence

SCHEMA_VERSION = 2
"""Of records and manifests that are new. Schema 1 differs in the keys of its cells alone, and is read for good."""
SCHEMAS = (1, SCHEMA_VERSION)
BASELINE = "ar"
"""The label that every speed-up and every audit of a run is against."""
ENERGY_FIELDS = ("energy_j", "energy_net_j", "energy_trace_j")
"""Of a record: joules by the counter, the same less idle power, and by integrating sampled power."""
CELL = ("target", "label", "suite", "question_id", "turn", "repeat", "launch")
"""The fields that say which cell a record is of; its key stands for them, and for what else defines the cell."""
PER_STEP = ("drafted_per_step", "accepted_per_step", "emitted_per_step", "levels_per_step")
"""Lists with an entry for each Step."""
NO_MORE_THAN_DRAFTED = ("accepted_per_step", "levels_per_step")
"""Of these lists, those whose entries are at most the tokens that the Step drafted."""
RESERVED = {"suite": "overall", "target": "mean over targets"}
"""What tables call the rows over all suites and over all targets: no suite and no target has that name."""

Name = Annotated[str, Field(min_length=1)]
Count = Annotated[int, Field(ge=0, le=2**31 - 1)]
Place = Annotated[int, Field(ge=0, le=10**6)]
OfStep = Annotated[int, Field(ge=0, le=2**20)]
"""Tokens or levels of one Step, or the depth of an exit; tables count how many there are of each."""
Int64 = Annotated[int, Field(ge=-(2**63), le=2**63 - 1)]
Finite = Annotated[float, Field(ge=-1e30, le=1e30)]
"""Sums of as many as there are stay finite."""
Seconds = Annotated[float, Field(ge=0, le=1e30)]
Joules = Finite
"""Older releases kept what a faulty meter said, below 0 too; tables leave that out."""
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

    run_id: Name
    schema_version: int = SCHEMA_VERSION
    key: Name
    status: Literal["ok", "failed", "skipped"]
    error: str | None = None

    target: Name
    decoder: Name
    label: Name
    draft: str | None = None
    decoder_options: dict[str, Any]
    lossy: bool
    projected: str | None = None
    suite: Name
    category: str
    question_id: Int64 | str
    turn: Place
    repeat: Place
    launch: Place = 0
    device_id: str | None = None
    seed: Int64 | None
    replay_turns: Literal["own", "ar"] = "own"

    prompt_hash: str | None = None
    prompt_tokens: Count | None = None
    prompt_truncated: bool = False
    new_tokens: Count | None = None
    retokenized_tokens: Annotated[int, Field(ge=-1, le=2**31 - 1)] | None = None
    stop: Literal["eos", "length"] | None = None
    output_ids: Annotated[list[Count], Field(min_length=1)] | None = None
    output_text: str | None = None

    prefill_s: Seconds | None = None
    decode_s: Seconds | None = None
    total_s: Seconds | None = None
    draft_s: Seconds | None = None
    verify_s: Seconds | None = None
    other_s: Finite | None = None
    bound_s: Seconds | None = None

    target_passes: Count | None = None
    drafted: Count | None = None
    accepted: Count | None = None
    drafted_per_step: list[OfStep] | None = None
    accepted_per_step: list[OfStep] | None = None
    emitted_per_step: list[OfStep] | None = None
    levels_per_step: list[OfStep] | None = None
    exit_depths: list[OfStep] | None = None
    draft_layers: Count | None = None

    nll_sum: Finite | None = None
    perplexity: Annotated[float, Field(ge=0)] | None = None
    quality: dict[str, Finite | None] | None = None
    quality_counts: dict[str, list[Count]] | None = None
    divergence: Divergence | None = None
    tie_positions: list[Count] | None = None
    energy_j: Joules | None = None
    energy_net_j: Joules | None = None
    energy_trace_j: Joules | None = None
    energy_s: Seconds | None = None
    reasons: dict[str, str] = {}

    @model_validator(mode="after")
    def _is_whole(self) -> Record:
        """No name of the tables' own, and an entry for each Step in every list of them."""
        for field, name in RESERVED.items():
            if getattr(self, field) == name:
                raise ValueError(f"{field} {name!r}: tables call their rows over all of them so")
        lists = {name: of for name in PER_STEP if (of := getattr(self, name)) is not None}
        if len({len(of) for of in lists.values()}) > 1:
            lengths = ", ".join(f"{name} {len(of)}" for name, of in lists.items())
            raise ValueError(f"lists of unequal length, which have an entry for each Step: {lengths}")
        for name in NO_MORE_THAN_DRAFTED:
            pairs = zip(lists.get(name, ()), lists.get("drafted_per_step", ()), strict=False)  # either may be missing
            for step, (entry, drafted) in enumerate(pairs, start=1):
                if entry > drafted:
                    raise ValueError(f"{name} {entry} of {drafted} drafted tokens (Step {step})")
        return self

    def updated(self, **fields: Any) -> Record:
        """The record with other values, validated as a new one is."""
        return Record.model_validate({**dict(self), **fields})


def is_failed(record: Record) -> bool:
    """Whether a retry should run the record's cell again: it failed, or it had no answer to build on."""
    return record.status == "failed" or record.error == ANOTHER_TURN_FAILED


def parse_record(row: dict[str, Any], where: str) -> Record:
    """A record from its JSON object; raises `RecordSchemaError` for a version this code does not read, and
    `ValidationError` for what is no record."""
    check_schema(row.get("schema_version"), where)
    return Record.model_validate(row)


def check_schema(version: Any, where: str) -> None:
    """Raise `RecordSchemaError` for a schema version that this code does not read."""
    if type(version) is not int or version not in SCHEMAS:
        known = " and ".join(map(str, SCHEMAS))
        raise RecordSchemaError(
            f"{where}: schema version {cut(str(version), 40)}; this code reads {known}. "
            "Read it with the release that wrote it, or run again into another folder."
        )
