"""How long to draft: optimal stopping over draft positions, in units of tokens.

A step gains its accepted tokens and pays for its seconds at the rate, in tokens per second, that the run achieves
anyway: only what has a positive value at that rate raises it. Shapes: `A` values of the survival probability, `C` bins
of confidence.
"""

from __future__ import annotations

import math

import numpy as np

from specbench_s2d.decoding.calibration import Calibration
from specbench_s2d.decoding.costs import OnlineCosts

_FINENESS = 0.8  # of the grid of survival probabilities: 1, 0.8, 0.64 ...
_GRID = 16
_LOGS_A = np.log(_FINENESS) * np.arange(_GRID)[::-1]  # ascending, for np.interp
_SURVIVAL_A = np.exp(_LOGS_A)


class StoppingValue:
    """The value, in tokens, of drafting on: by draft position and by survival, the probability that all tokens drafted
    so far are accepted.

    W_j(a) = max(0, sum_c P_j(c) max(0, K_j(a, c)) - rate * read_j) is the value of reading a token at position j, and
    K_j(a, c) = a * acceptance_j(c) - rate * (verify(j + 1) - verify(j)) + W_{j+1}(a * acceptance_j(c)) that of
    proposing it, where it was read with confidence c. W is 0 beyond the longest draft. A token that is not read yet is
    assumed to leave at the first exit.
    """

    def __init__(self, rate: float, costs: OnlineCosts, calibration: Calibration, longest: int) -> None:
        self._rate, self._costs = rate, costs
        self._table = [np.zeros(_GRID)] * (longest + 2)
        for position in range(longest, 0, -1):
            accept_C, share_C = calibration.forecast(position)
            survival_AC = _SURVIVAL_A[:, None] * accept_C
            later_AC = np.interp(np.log(survival_AC), _LOGS_A, self._table[position + 1], left=0.0)
            propose_AC = survival_AC - self._wider(position) + later_AC
            read = rate * costs.stage(0, 1, cold=position == 1)
            self._table[position] = np.maximum(np.maximum(propose_AC, 0.0) @ share_C - read, 0.0)

    def of_reading(self, position: int, survival: float) -> float:
        """W: the value of reading a token at `position`; 0 where it is better to stop."""
        if position >= len(self._table) or survival <= 0.0:
            return 0.0
        at = math.log(survival) / math.log(_FINENESS)
        low = int(at)
        if low + 1 >= _GRID:
            return 0.0
        row = self._table[position]
        return float(row[-1 - low] + (at - low) * (row[-2 - low] - row[-1 - low]))

    def of_proposing(self, position: int, survival: float, acceptance: float) -> float:
        """K: the value of proposing the token read at `position`; below 0 it is better dropped."""
        survival *= acceptance
        return survival - self._wider(position) + self.of_reading(position + 1, survival)

    def price(self, seconds: float) -> float:
        """The tokens that these seconds (at the costs' level 1) would yield at the run's rate."""
        return self._rate * seconds

    def _wider(self, position: int) -> float:
        return self._rate * (self._costs.verify(position + 1) - self._costs.verify(position))
