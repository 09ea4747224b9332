"""From any sample rate to another, by a windowed sinc: the same arithmetic as in the graph.

For each sample of the result the source is read at that time, through a low-pass filter below half of the lower rate.
"""

import dataclasses
import math
from typing import Final

import numpy as np
import numpy.typing as npt

ZERO_CROSSINGS: Final = 16  # of the sinc on each side up to the end of its window: with more, the filter is steeper
ROLL_OFF: Final = 0.945  # the filter's half-amplitude frequency, as a share of half of the lower rate
_BLOCK: Final = 1024  # phases at a time: their weights, for the highest rate, are 5 MB


@dataclasses.dataclass(frozen=True, slots=True)
class Rates:
    """The rates of source and result, in samples a second, and the parameters of the filter for them."""

    source: int
    target: int

    @property
    def cutoff(self) -> float:
        """Of the filter, as a share of half of the source's rate."""
        return ROLL_OFF * min(1.0, self.target / self.source)

    @property
    def reach(self) -> int:
        """Samples of the source on each side that count for one of the result."""
        return math.ceil(ZERO_CROSSINGS / self.cutoff)

    def frames(self, length: int) -> int:
        """Samples of the source that `length` samples of the result need."""
        if self.source == self.target:
            return length
        return (length - 1) * self.source // self.target + self.reach + 1


def resample(samples: npt.NDArray[np.float64], rates: Rates, length: int) -> npt.NDArray[np.float64]:
    """float64 array of shape (length,): the beginning of the samples, of shape (any,), at the other rate; silence."""
    if rates.source == rates.target:
        result = np.zeros(length)
        result[: len(samples)] = samples[:length]
        return result
    common = math.gcd(rates.source, rates.target)
    up, down = rates.target // common, rates.source // common
    reach, cutoff = rates.reach, rates.cutoff
    known = samples[: rates.frames(length)]
    padded = np.zeros(reach - 1 + rates.frames(length) + reach)
    padded[reach - 1 : reach - 1 + len(known)] = known
    around = np.lib.stride_tricks.sliding_window_view(padded, 2 * reach)
    taps = np.arange(1 - reach, reach + 1)
    result = np.empty(length)
    # Every `up`-th sample has the same position between two of the source, so these share their weights.
    phases = min(up, length)
    for start in range(0, phases, _BLOCK):
        phase = np.arange(start, min(start + _BLOCK, phases))
        weights = _kernel(cutoff * ((phase * down % up / up)[:, None] - taps)) * cutoff
        for row, position in zip(weights, phase.tolist(), strict=True):
            chosen = result[position::phases]
            chosen[:] = around[position * down // up :: down][: len(chosen)] @ row
    return result


def _kernel(time: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """A sinc under a Hann window; time counts its zero crossings."""
    window = 0.5 + 0.5 * np.cos(np.pi / ZERO_CROSSINGS * time)
    return np.where(np.abs(time) < ZERO_CROSSINGS, np.sinc(time) * window, 0.0)
