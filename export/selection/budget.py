"""The time budget of trainings."""

from __future__ import annotations

__all__ = ["Budget"]


class Budget:
    """Counts the seconds of trainings.

    Args:
        seconds: For all of them; None: no limit.
    """

    def __init__(self, seconds: float | None) -> None:
        self._left = seconds
        self._longest = 0.0

    @property
    def left(self) -> float:
        """Seconds that are left, at least 0."""
        return float("inf") if self._left is None else max(0.0, self._left)

    def fits(self, share: float = 1.0) -> bool:
        """Whether a training with this share of the longest time so far would fit. The first always does."""
        return self._longest * share <= self.left

    def spend(self, seconds: float, share: float = 1.0) -> None:
        """Subtracts the time of a training, which was this share of a full one."""
        self._longest = max(self._longest, seconds / share)
        if self._left is not None:
            self._left -= seconds
