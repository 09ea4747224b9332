"""Fixtures of the conformance suite."""

from tests.conformance.pair import pair_models

__all__ = ["pair_models"]
