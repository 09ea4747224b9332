"""The optional signatures of a version: vectors, and explanations."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from duoserve._calls.effects import Steps
from duoserve._calls.inputs import Query, Row
from duoserve._calls.observing import Context
from duoserve._calls.version_follower import VersionFollower
from duoserve._checks import Target
from duoserve._wire.messages import Outputs
from duoserve.contract import EMBED, EXPLAIN, PreprocessingSpec, TensorSpec, signatures
from duoserve.errors import BadReply, DuoserveError, UnsupportedModel
from duoserve.explanation import Explanation, InputRelevance, Word
from duoserve.results import Embedding, Sent


@dataclasses.dataclass
class EmbedExplain:
    """The signatures `embed` and `explain`, asked by a VersionFollower, which follows rollouts."""

    follower: VersionFollower

    def embedding_version(self, context: Context, target: Target) -> Steps[int]:
        """The version that a label names now. Raises UnsupportedModel if it has no signature `embed`."""
        preprocessor, version = yield from self.follower.describe(context, target)
        reason = Query((), EMBED).mismatch(preprocessor.spec)
        if reason is not None:
            raise self.follower.locate(UnsupportedModel(reason), version)
        return version

    def embed_rows(
        self, context: Context, target: Target, rows: Sequence[Row], sent: Sent = "tensors"
    ) -> Steps[list[Embedding | DuoserveError]]:
        """The vectors of rows, always sent as tensors."""
        outputs, answering = yield from self.follower.ask(context, target, Query(rows, EMBED))
        vectors = self._checked(outputs, answering.spec, EMBED, len(rows))["embedding"]
        return [Embedding(vector, outputs.version, target) for vector in vectors]

    def explain(self, context: Context, target: Target, row: Row, label: str | None) -> Steps[Explanation]:
        """The explanation of one row."""
        outputs, answering = yield from self.follower.ask(context, target, Query([row], EXPLAIN, label))
        found = self._checked(outputs, answering.spec, EXPLAIN, 1)
        pixels, _ = row.tensors(answering)
        text = "" if row.text is None else row.text
        words = [] if row.text is None else answering.words(text)
        class_id, of_tokens = int(found["class_id"][0]), found["token_relevance"][0]
        if not 0 <= class_id < len(answering.spec.labels):
            error = BadReply(f"Expected a class_id of the labels. Received: {class_id}")
            raise self.follower.locate(error, outputs.version)
        return Explanation(
            label=answering.spec.labels[class_id],
            value=float(found[answering.spec.answer.value][0]),
            kind=answering.spec.answer,
            pixels=pixels,
            image_relevance=found["image_relevance"][0],
            text=text,
            words=tuple(Word(text[a:b], a, 0.0 if at < 0 else float(of_tokens[at])) for a, b, at in words),
            input_relevance=InputRelevance(*found["input_relevance"][0].tolist()),
            version=outputs.version,
            target=target,
            background=answering.spec.background,
        )

    def _checked(
        self, outputs: Outputs, spec: PreprocessingSpec, signature: str, rows: int
    ) -> dict[str, npt.NDArray[Any]]:
        """The outputs for this number of rows, read-only, checked against the contract."""
        found = {}
        for expected in signatures(spec)[signature].outputs:
            sized = TensorSpec(expected.name, expected.dtype, (rows, *expected.shape[1:]))
            array = found[expected.name] = self.follower.tensor(outputs, sized)
            if not np.isfinite(array).all():
                raise self.follower.not_finite(expected.name, outputs.version)
            array.flags.writeable = False
        return found
