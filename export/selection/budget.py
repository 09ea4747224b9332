"""The time budget of trainings."""


class Budget:
    """Counts the seconds of trainings; None: no limit."""

    def __init__(self, seconds: float | None) -> None:
        self.left = float("inf") if seconds is None else seconds
        self._longest = 0.0

    def fits(self, share: float = 1.0) -> bool:
        """Whether a training with this share of the longest time so far would fit. The first always does."""
        return self._longest * share <= self.left

    def spend(self, seconds: float, share: float = 1.0) -> None:
        """Subtracts the time of a training, which was this share of a full one."""
        self._longest = max(self._longest, seconds / share)
        self.left = max(0.0, self.left - seconds)
