"""Which operation takes which tensors, in a functional Keras model and its nested models."""

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from typing import Any

import keras

Operation = Any
"""A layer, or an operation of `keras.ops`: keras has no types to check against."""

Node = Any
"""One call of an operation."""


class Calls:
    """All calls in a model that is a graph of layers, and in its nested models.

    Attributes:
        of: The calls of each operation, except operations inside custom layers.
    """

    def __init__(self, model: keras.Model) -> None:
        self.of: dict[Operation, list[Node]] = defaultdict(list)
        self._graphs: dict[Operation, keras.Model] = {}
        self._taken: Counter[int] = Counter()
        self._enter(model)

    def _enter(self, model: Operation) -> None:
        graph = _graph(model)
        if graph is None or model in self._graphs:
            return
        self._graphs[model] = graph
        self._taken.update(id(tensor) for tensor in graph.outputs)
        depths = sorted(graph._nodes_by_depth.items(), reverse=True)  # from the inputs on
        for node in (each for _, nodes in depths for each in nodes if not each.is_input):
            self.of[node.operation].append(node)
            self._taken.update(id(tensor) for tensor in node.input_tensors)
            self._enter(node.operation)

    def before(self, operation: Operation) -> Operation | None:
        """The operation whose only consumer is this one; None if either is called twice, or takes more."""
        node = self._only(operation)
        if node is None or not takes_one_tensor(node):
            return None
        (tensor,) = node.arguments.args
        if self._taken[id(tensor)] > 1:
            return None
        before = tensor._keras_history.operation
        return before if self._only(before) is not None else None

    def _only(self, operation: Operation) -> Node | None:
        nodes = self.of.get(operation, ())
        return nodes[0] if len(nodes) == 1 else None

    def with_exchanged(self, exchanged: Mapping[Operation, Callable[..., Any]]) -> keras.Model:
        """The model with some operations replaced. It shares all others, and the weights."""
        made: dict[Operation, Any] = dict(exchanged)
        # The innermost were entered last.
        for model, graph in reversed(self._graphs.items()):
            made[model] = keras.models.clone_model(graph, clone_function=lambda layer: made.get(layer, layer))
        return made[next(iter(self._graphs))]


def _graph(model: Operation) -> keras.Model | None:
    """The model as a graph of layers, not compiled; None if it is not a model, or has custom code."""
    if not isinstance(model, keras.Model):
        return None
    code = type(model).call
    if code is keras.Sequential.call and model.built:
        return keras.Model(model.inputs[0], model.outputs[0], name=model.name)
    if code.__qualname__ == "Functional.call":
        return keras.Model(model.input, model.output, name=model.name)
    return None


def takes_one_tensor(node: Node) -> bool:
    """Whether a call takes one tensor beside its mask. A `training` argument does not matter to a server."""
    args, options = node.arguments.args, node.arguments.kwargs
    return len(args) == 1 and hasattr(args[0], "_keras_history") and options.keys() <= {"mask", "training"}
