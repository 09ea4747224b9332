"""A model made cheaper to serve, with the same answers: known layers are exchanged by rules.

What does not fit a rule stays as it is, and so does the model that is given.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import keras

from export.optimise.calls import Calls
from export.optimise.constants import Constants
from export.optimise.rules import RULES

__all__ = ["Constants", "Optimised", "optimise"]


@dataclasses.dataclass(frozen=True, slots=True)
class Optimised:
    """A model after the rules.

    Attributes:
        model: With the inputs and outputs of the one that was given; shares the layers that stayed with it.
        applied: The layers that each rule was applied to, by the rule's name. Rules that fit nowhere are left out.
    """

    model: keras.Model
    applied: Mapping[str, tuple[str, ...]]


def optimise(model: keras.Model) -> Optimised:
    """Applies every rule wherever it fits, in models inside the model too.

    Args:
        model: A built Keras model. Only what is a graph of layers is looked into. It is not changed.
    """
    calls = Calls(model)
    exchanged: dict[Any, Callable[..., Any]] = {}
    applied: dict[str, tuple[str, ...]] = {}
    for rule in RULES:
        found = list(rule.find(calls))
        for exchange in found:
            exchanged.update(exchange)
        if found:
            applied[rule.name] = tuple(next(iter(exchange)).name for exchange in found)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what Keras has to say about the user's model, it has said
        return Optimised(calls.with_exchanged(exchanged) if exchanged else model, applied)
