"""Loads a SavedModel as TensorFlow Serving does: into a Session, by the v1 loader.

`tf.saved_model.load` takes models that a Session can't run (Keras 3 variables that were never
tracked, for one), so it proves nothing about serving.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tensorflow as tf
import tensorflow_text  # noqa: F401  registers the ops that tokenise
from tensorflow.core.protobuf import rewriter_config_pb2

from duoserve.contract import DESCRIBE, PreprocessingSpec
from export.errors import ExportError


class SessionModel:
    """A SavedModel in its own `session`, with the `meta_graph` that was loaded. A context manager.

    Args:
        folder: The SavedModel.
        bfloat16: Whether to compute as a server with `--mixed_precision=bfloat16`.

    Raises:
        ExportError: The folder holds no SavedModel with the tag "serve", or one that can't be loaded.
    """

    def __init__(self, folder: Path, *, bfloat16: bool = False) -> None:
        config = tf.compat.v1.ConfigProto()
        if bfloat16:
            config.graph_options.rewrite_options.auto_mixed_precision_onednn_bfloat16 = (
                rewriter_config_pb2.RewriterConfig.ON
            )
        self.session = tf.compat.v1.Session(graph=tf.Graph(), config=config)
        try:
            with self.session.graph.as_default(), _quiet():
                self.meta_graph = tf.compat.v1.saved_model.load(self.session, ["serve"], str(folder))
        except Exception as error:  # OSError, RuntimeError, KeyError, tf.errors.OpError …
            self.session.close()
            raise ExportError(f"Expected {folder} to load in a Session. Received: {_first_line(error)}") from error

    def __enter__(self) -> SessionModel:
        return self

    def __exit__(self, *_: object) -> None:
        self.session.close()

    def run(self, signature: str, inputs: Mapping[str, Any], *options: Any) -> dict[str, npt.NDArray[Any]]:
        """Runs one signature; arrays by output name. Takes further arguments of `Session.run` too.

        Raises:
            ExportError: No such signature, wrong inputs, or a failure of the graph.
        """
        found = self.meta_graph.signature_def.get(signature)
        if found is None:
            known = ", ".join(self.meta_graph.signature_def)
            raise ExportError(f"Expected a signature {signature!r}. Received: {known}")
        if set(found.inputs) != set(inputs):
            raise ExportError(f"{signature}: expected the inputs {sorted(found.inputs)}. Received: {sorted(inputs)}")
        fetches = {key: info.name for key, info in found.outputs.items()}
        feeds = {found.inputs[key].name: value for key, value in inputs.items()}
        try:
            return self.session.run(fetches, feeds, *options)  # type: ignore[no-any-return]
        except (tf.errors.OpError, ValueError, TypeError) as error:
            raise ExportError(f"{signature}: expected it to run. Received: {_first_line(error)}") from error

    def describe(self) -> PreprocessingSpec:
        """The spec in the model. Raises ExportError or ContractError if it does not give one, the same for each row."""
        specs = np.asarray(self.run(DESCRIBE, {"key": np.array([b"", b""], object)}).get("spec"))
        if specs.shape != (2,) or specs.dtype != object or specs[0] != specs[1]:
            raise ExportError(f"describe: expected one spec for each of 2 rows. Received: {specs!r:.80}")
        return PreprocessingSpec.from_json(specs[0])

    def computes_in(self, dtype: tf.DType, signature: str, inputs: Mapping[str, Any]) -> bool:
        """Whether the optimised graph that TensorFlow runs for a signature has an operation of a dtype."""
        metadata = tf.compat.v1.RunMetadata()
        self.run(signature, inputs, tf.compat.v1.RunOptions(output_partition_graphs=True), metadata)
        nodes = (node for graph in metadata.partition_graphs for node in graph.node)
        return any(value.type == dtype.as_datatype_enum for node in nodes for value in node.attr.values())


def start_runtime() -> None:
    """Starts what TensorFlow needs for any model, mainly threads, so that a measurement covers one model only."""
    with _quiet(), tf.Graph().as_default(), tf.compat.v1.Session() as session:
        session.run(tf.constant(1) + 1)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Hides two messages that no setting turns off: that the v1 loader is deprecated in Python (the server's equivalent
    is not), and the C++ runtime's greeting on the first Session."""
    logger = tf.get_logger()
    level = logger.level
    logger.setLevel("ERROR")
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        with Path(os.devnull).open("w") as nowhere:
            os.dup2(nowhere.fileno(), 2)
            yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        logger.setLevel(level)


def _first_line(error: Exception) -> str:
    """The line with the reason: TensorFlow puts a title before it and node names after it."""
    text = error.message if isinstance(error, tf.errors.OpError) else str(error)
    lines = [line for line in text.splitlines() if line.strip() and line != "Graph execution error:"]
    return lines[0] if lines else type(error).__name__
