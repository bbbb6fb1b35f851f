"""Where passes are timed: a device that is none is refused before its memory is asked for."""

from __future__ import annotations

from specbench_s2d.bench.pass_costs import Place, check_targets
from specbench_s2d.errors import UserError
from tests.refusals import refused


def test_a_name_of_no_device_is_refused() -> None:
    with refused(UserError, "--device gpu7: not a device; "):
        check_targets(["demo-tiny"], "demo-draft", Place("gpu7"), 8)
