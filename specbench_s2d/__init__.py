"""Measure speculative decoding: targets x decoders x Spec-Bench's suites, honestly timed.

    from specbench_s2d import load_model, build_decoder
    target, draft = load_model("demo-m"), load_model("demo-draft-sft")
    decoder = build_decoder("sd", target=target, draft=draft, gamma=3)
    generation = decoder.generate(prompt_ids, max_new_tokens=128)

cli         the command line
config      RunSpec: what a run is
suites      Question: what is asked
models      LanguageModel: a checkpoint with a cache that can be cut
decoding    the loop, the drafters and the verifiers
measure     scoring, the audit, quality, energy, the machine and its conditions
bench       plan, runner, records, store
analysis    tidy tables, statistics, plots, the report, the gate
training    the commands that made the demo family
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from specbench_s2d.decoding.spec import build_decoder
    from specbench_s2d.models.load import load_model

__all__ = ["build_decoder", "load_model"]
__version__ = "0.1.0"

_WHERE = {"load_model": "specbench_s2d.models.load", "build_decoder": "specbench_s2d.decoding.spec"}


def __getattr__(name: str) -> Any:
    """Import the API's functions when first used: `import specbench_s2d` itself loads no torch."""
    if name in _WHERE:
        from importlib import import_module

        return getattr(import_module(_WHERE[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
