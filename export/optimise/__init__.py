"""Makes a model cheaper to serve, with the same answers: rules replace known layers.

Layers that fit no rule stay unchanged, and so does the given model.
"""

import dataclasses
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import keras

from export.optimise.calls import Calls
from export.optimise.constants import Constants, Reading
from export.optimise.rules import RULES

__all__ = ["Constants", "Optimised", "Reading", "optimise"]


@dataclasses.dataclass(frozen=True, slots=True)
class Optimised:
    """A model after the rules.

    Attributes:
        model: Has the inputs and outputs of the given model, and shares its unchanged layers.
        applied: The layers that each rule was applied to, by the rule's name. Unused rules are left out.
    """

    model: keras.Model
    applied: Mapping[str, tuple[str, ...]]


def optimise(model: keras.Model) -> Optimised:
    """Applies every rule wherever it fits, also in nested models.

    Args:
        model: A built Keras model. Only graphs of layers are optimised. It is not changed.
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
        warnings.simplefilter("ignore")  # Keras has given its warnings about the user's model already
        return Optimised(calls.with_exchanged(exchanged) if exchanged else model, applied)
