"""The rules: which layers are replaced, by what, and when."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import keras

from export.optimise.batch_norm import fold
from export.optimise.calls import Calls, takes_one_tensor
from export.optimise.lstm import block_lstm

Exchange = Mapping[Any, Callable[..., Any]]
"""Layers, and their replacements."""


@dataclasses.dataclass(frozen=True, slots=True)
class Rule:
    """One way to make the graph of a model cheaper without changing its answers.

    Attributes:
        name: For the card.
        summary: What it does, as text.
        find: Where it fits in a model, as independent replacements.
    """

    name: str
    summary: str
    find: Callable[[Calls], Iterator[Exchange]]


def _lstms(calls: Calls) -> Iterator[Exchange]:
    for layer, nodes in calls.of.items():
        if all(takes_one_tensor(node) for node in nodes):  # no initial state
            made = block_lstm(layer)
            if made is not None:
                yield {layer: made}


def _norms(calls: Calls) -> Iterator[Exchange]:
    for norm in calls.of:
        if isinstance(norm, keras.layers.BatchNormalization):
            layer = calls.before(norm)
            made = None if layer is None else fold(layer, norm)
            if made is not None:
                yield {layer: made, norm: _as_it_is}


def _as_it_is(inputs: Any, **_: Any) -> Any:
    return inputs


RULES: Final = (
    Rule("lstm", "LSTM and Bidirectional LSTM as one BlockLSTMV2 for each direction", _lstms),
    Rule("batch_norm", "batch normalisation folded into the convolution or dense layer before it", _norms),
)
