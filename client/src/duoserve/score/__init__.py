"""Sends a whole table through a server, resumably: `duoserve score`."""

from duoserve.score.run import Report, Scoring

__all__ = ["Report", "Scoring"]
