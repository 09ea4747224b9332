"""Many rows at once: a whole table through a server, resumable. Behind `duoserve score`."""

from duoserve.score.run import Report, score

__all__ = ["Report", "score"]
