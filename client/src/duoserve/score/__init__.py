"""Sends a whole table through a server, resumably: `duoserve score`."""

from duoserve.score.run import Report, score

__all__ = ["Report", "score"]
