"""How long to draft: optimal stopping over draft positions, in tokens at the run's going rate.

A step earns its accepted tokens and pays for its seconds at the rate (tokens per second) that the run achieves anyway;
what has positive worth at that rate raises it. Shapes: `A` chances that all tokens so far are accepted, `C` bins of
confidence.
"""

from __future__ import annotations

import math

import numpy as np

from specbench_s2d.decoding.calibration import Calibration
from specbench_s2d.decoding.costs import PassCosts

_FINENESS = 0.8  # of the grid of chances: 1, 0.8, 0.64 ...
_GRID = 16
_LOGS_A = np.log(_FINENESS) * np.arange(_GRID)[::-1]  # ascending, as np.interp wants it
_ALIVE_A = np.exp(_LOGS_A)


class StoppingValue:
    """The worth of drafting on, by position and by the chance that everything so far is accepted.

    W_j(a) = max(0, sum_c P_j(c) max(0, K_j(a, c)) - rate * read_j), where K_j(a, c) = a * acceptance_j(c) - rate *
    (verify(j + 1) - verify(j)) + W_{j+1}(a * acceptance_j(c)) is the worth of proposing the token that was read with
    confidence c, and W beyond the longest draft is 0. Tokens not read yet are taken to leave at the first exit.
    """

    def __init__(self, rate: float, costs: PassCosts, calibration: Calibration, longest: int) -> None:
        self._rate, self._costs = rate, costs
        self._table = [np.zeros(_GRID)] * (longest + 2)
        for position in range(longest, 0, -1):
            accept_C, share_C = calibration.outlook(position)
            alive_AC = _ALIVE_A[:, None] * accept_C
            after_AC = np.interp(np.log(alive_AC), _LOGS_A, self._table[position + 1], left=0.0)
            keep_AC = alive_AC - self._wider(position) + after_AC
            read = rate * costs.stage(0, 1, cold=position == 1)
            self._table[position] = np.maximum(np.maximum(keep_AC, 0.0) @ share_C - read, 0.0)

    def of_reading(self, position: int, alive: float) -> float:
        """W: the worth of reading a token at `position`, at least 0 (leaving it)."""
        if position >= len(self._table) or alive <= 0.0:
            return 0.0
        at = math.log(alive) / math.log(_FINENESS)
        low = int(at)
        if low + 1 >= _GRID:
            return 0.0
        row = self._table[position]
        return float(row[-1 - low] + (at - low) * (row[-2 - low] - row[-1 - low]))

    def of_keeping(self, position: int, alive: float, acceptance: float) -> float:
        """K: the worth of proposing the token read at `position`; below 0 it is better dropped."""
        now = alive * acceptance
        return now - self._wider(position) + self.of_reading(position + 1, now)

    def price(self, seconds: float) -> float:
        """What these seconds (at the costs' level 1) are worth."""
        return self._rate * seconds

    def _wider(self, position: int) -> float:
        return self._rate * (self._costs.verify(position + 1) - self._costs.verify(position))
