"""Several devices: nothing mixes them, and a target is spread over both."""

from __future__ import annotations

import pytest
import torch

from tests.rehearsal.counts import Counts
from tests.rehearsal.rules import RefusedError


def test_two_devices_do_not_mix(two_devices: Counts) -> None:
    first, second = torch.ones(2, device="cuda:0"), torch.ones(2, device="cuda:1")
    with pytest.raises(RefusedError, match="cuda:0 and cuda:1"):
        first + second
    assert (first + second.to("cuda:0")).tolist() == [2.0, 2.0]
