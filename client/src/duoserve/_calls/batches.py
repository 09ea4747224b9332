"""Large batches: read, split to the size that the server accepts, sent in parallel, put back in order."""

import dataclasses
from collections.abc import Callable, Hashable, Sequence
from typing import Any, Final, Generic, TypeVar

from duoserve._calls import inputs as _inputs
from duoserve._calls.effects import Gather, Offload, Steps
from duoserve._calls.failures import batch_limit
from duoserve._calls.inputs import Query, Row, SendMode
from duoserve._calls.observing import Context
from duoserve._calls.version_follower import VersionFollower
from duoserve._checks import Target
from duoserve.contract import SERVING_DEFAULT
from duoserve.errors import DuoserveError, InvalidInput, RequestRejected
from duoserve.preprocessing.preprocessor import Preprocessor
from duoserve.results import Sent

_CONCURRENT: Final = 4  # parallel requests of one batch: keeps a server busy, leaves threads to others
_CHUNK_BYTES: Final = 16 << 20  # encoded photos are large: several requests instead of one of a gigabyte

T = TypeVar("T")  # the answer for a row
Ask = Callable[[Context, Target, Sequence[Row], Sent], Steps[list[T | DuoserveError]]]
Chunk = list[tuple[int, Row]]
After = Callable[[Sequence[tuple[Row, T]]], Steps[None]]


@dataclasses.dataclass
class Batches(Generic[T]):
    """Sends any number of rows. Detects the server's max_batch_size when it is below ours."""

    follower: VersionFollower  # knows which version to prepare for
    ask: Ask[T]  # sends one request, and returns an answer or an error for each of its rows
    limit: int  # most rows of a request

    def answer(
        self, context: Context, targets: Sequence[Target], pairs: Sequence[Any], mode: SendMode, after: After[T] | None
    ) -> Steps[list[T | DuoserveError]]:
        """An outcome for each pair, in order. Rows that fail go to the next target, answered ones to `after`."""
        if not pairs:
            return []
        expected = yield from self.follower.expected(context, targets[0])
        batch = _Batch(self, context, targets, pairs, mode, after, expected)
        size = self.limit
        windows = [range(start, min(start + size, len(pairs))) for start in range(0, len(pairs), size)]
        yield Gather([batch.send(window) for window in windows], _CONCURRENT)
        outcomes = [batch.outcomes[i] for i in range(len(pairs))]
        context.record.row_errors = sum(isinstance(outcome, DuoserveError) for outcome in outcomes)
        return outcomes


@dataclasses.dataclass
class _Batch(Generic[T]):
    """The rows of one call, with what is known of each: `outcomes`, by position."""

    batches: Batches[T]
    context: Context
    targets: Sequence[Target]
    pairs: Sequence[Any]
    mode: SendMode
    after: After[T] | None
    expected: Preprocessor
    outcomes: dict[int, T | DuoserveError] = dataclasses.field(default_factory=dict)

    def send(self, window: range) -> Steps[None]:
        """Reads and sends a window of neighbouring rows, so that only these are in memory."""
        groups = yield Offload(lambda: self._read(window))
        for sent, chunk in groups:
            left = chunk
            for target in self.targets:
                yield from self._ask(target, left, sent)
                left = [(i, row) for i, row in left if _failed(self.outcomes[i])]
                if not left:
                    break
            if self.after is not None:
                answered = []
                for i, row in chunk:
                    outcome = self.outcomes[i]
                    if not isinstance(outcome, DuoserveError):
                        answered.append((row, outcome))
                yield from self.after(answered)

    def _read(self, window: range) -> list[tuple[Sent, Chunk]]:
        """Reads the rows of a window, and groups them by how they are sent and by which inputs they have.

        A version that refuses a row because an input is missing, or is a clip, refuses its whole group.
        """
        spec = self.expected.spec
        chunks: dict[tuple[Sent, Hashable], list[Chunk]] = {}
        sizes: dict[tuple[Sent, Hashable], int] = {}
        for i in window:
            try:
                image, text = _split_pair(self.pairs[i])
                row = _inputs.read_row(image, text)
                sent = _inputs.choose(row, spec, self.mode)
                if sent == "tensors" and not Query([row], SERVING_DEFAULT).mismatch(spec):
                    row.tensors(self.expected)  # a broken image must fail alone, not with its chunk
            except InvalidInput as error:
                self.outcomes[i] = error
                continue
            size = row.size if sent == "bytes" else _inputs.tensor_bytes(spec)
            kind = sent, (row.medium, row.missing)
            if kind not in chunks or sizes[kind] + size > _CHUNK_BYTES:
                chunks.setdefault(kind, []).append([])
                sizes[kind] = 0
            chunks[kind][-1].append((i, row))
            sizes[kind] += size
        return [(sent, chunk) for (sent, _), of_kind in chunks.items() for chunk in of_kind]

    def _ask(self, target: Target, chunk: Chunk, sent: Sent) -> Steps[None]:
        """Fills in the outcomes of one chunk; a chunk that the server refuses is split."""
        try:
            found = yield from self.batches.ask(self.context, target, [row for _, row in chunk], sent)
        except DuoserveError as error:
            limit = batch_limit(error)
            if limit is not None:
                self.batches.limit = min(self.batches.limit, limit)
            is_refused = isinstance(error, RequestRejected) and error.code == "INVALID_ARGUMENT"
            if len(chunk) == 1 or not is_refused:
                self.outcomes |= {i: error for i, _ in chunk}
                return
            # A row that the model fails on must not fail the others: halve the chunk until that row is alone.
            size = max(1, min(limit or (len(chunk) + 1) // 2, len(chunk) - 1))
            for start in range(0, len(chunk), size):
                yield from self._ask(target, chunk[start : start + size], sent)
        else:
            self.outcomes |= {i: outcome for (i, _), outcome in zip(chunk, found, strict=True)}


def _failed(outcome: object) -> bool:
    return isinstance(outcome, DuoserveError) and not isinstance(outcome, InvalidInput)


def _split_pair(pair: Any) -> tuple[Any, Any]:
    if not isinstance(pair, Sequence) or isinstance(pair, (str, bytes)) or len(pair) != 2:
        raise InvalidInput(f"Expected each row to be a pair (image or Clip, text). Received: {type(pair).__name__}")
    return pair[0], pair[1]
