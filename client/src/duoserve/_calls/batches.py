"""Large batches: read, split to the size that the server accepts, sent in parallel, put back in order."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any, Final, Generic, TypeGuard, TypeVar

from duoserve._calls import inputs as _inputs
from duoserve._calls.effects import Gather, Offload, Steps
from duoserve._calls.failures import batch_limit
from duoserve._calls.inputs import Row, SendMode
from duoserve._calls.retrying import Context
from duoserve._calls.specs import Target
from duoserve._calls.version_follower import VersionFollower
from duoserve.contract import PreprocessingSpec
from duoserve.errors import DuoserveError, InvalidInput, RequestRejected
from duoserve.preprocessing.preprocessor import Preprocessor
from duoserve.results import Sent

__all__ = ["Batches"]

_CONCURRENT: Final = 4  # parallel requests of one batch: keeps a server busy, leaves threads to others
_CHUNK_BYTES: Final = 16 << 20  # encoded photos are large: several requests instead of one of a gigabyte

T = TypeVar("T")  # the answer for a row
Ask = Callable[[Context, Target, Sequence[Row], Sent], Steps[list[T | DuoserveError]]]
Chunk = list[tuple[int, Row]]
After = Callable[[Sequence[tuple[Row, T]]], Steps[None]]


class Batches(Generic[T]):
    """Sends any number of rows. Detects the server's max_batch_size when it is below ours.

    Args:
        core: Knows which version to prepare for.
        ask: Sends one request, and returns an answer or an error for each of its rows.
        max_batch_size: Of a request.
    """

    def __init__(self, follower: VersionFollower, ask: Ask[T], max_batch_size: int) -> None:
        self._follower = follower
        self._ask = ask
        self._limit = max_batch_size

    def answer(
        self,
        context: Context,
        target: Target,
        pairs: Sequence[Any],
        mode: SendMode,
        fallbacks: Sequence[Target],
        after: After[T] | None,
    ) -> Steps[list[T | DuoserveError]]:
        """An outcome for each pair, in order.

        Args:
            context: Of the call.
            target: The label or version to ask.
            pairs: Images and texts.
            mode: How to send them.
            fallbacks: The labels or versions to ask next, for the rows that fail.
            after: Called with the rows of each request and their answers.
        """
        if not pairs:
            return []
        expected = yield from self._follower.expected(context, target)
        outcomes: list[T | DuoserveError | None] = [None] * len(pairs)
        size = self._limit
        windows = [range(start, min(start + size, len(pairs))) for start in range(0, len(pairs), size)]
        steps = [
            self._window(context, (target, *fallbacks), pairs, window, expected, mode, outcomes, after)
            for window in windows
        ]
        yield Gather(steps, _CONCURRENT)
        return [outcome for outcome in outcomes if outcome is not None]

    def _window(
        self,
        context: Context,
        targets: Sequence[Target],
        pairs: Sequence[Any],
        window: range,
        expected: Preprocessor,
        mode: SendMode,
        outcomes: list[T | DuoserveError | None],
        after: After[T] | None,
    ) -> Steps[None]:
        """Reads and sends a window of neighbouring rows, so that only these are in memory."""
        groups = yield Offload(lambda: self._read(pairs, window, expected, mode, outcomes))
        for sent, chunk in groups:
            left = chunk
            for target in targets:
                yield from self._chunk(context, target, left, sent, outcomes)
                left = [(i, row) for i, row in left if _failed(outcomes[i])]
                if not left:
                    break
            if after is not None:
                found = [(row, outcomes[i]) for i, row in chunk]
                yield from after([(row, answer) for row, answer in found if _is_answer(answer)])

    def _read(
        self,
        pairs: Sequence[Any],
        window: Iterable[int],
        expected: Preprocessor,
        mode: SendMode,
        outcomes: list[T | DuoserveError | None],
    ) -> list[tuple[Sent, Chunk]]:
        """Reads the rows of a window, and groups them by how they are sent and by which inputs they have.

        A version that refuses a row because an input is missing, or is a clip, refuses its whole group.
        """
        chunks: dict[tuple[Sent, Hashable], list[Chunk]] = {}
        sizes: dict[tuple[Sent, Hashable], int] = {}
        for i in window:
            try:
                image, text = _split_pair(pairs[i])
                row = _inputs.read_row(image, text)
                sent = _inputs.choose(row, expected.spec, mode)
                if sent == "tensors" and not _inputs.mismatch([row], expected.spec):
                    row.tensors(expected)  # a broken image must fail alone, not with its chunk
            except InvalidInput as error:
                outcomes[i] = error
                continue
            size = _size(row, sent, expected.spec)
            kind = sent, (row.medium, row.missing)
            if kind not in chunks or sizes[kind] + size > _CHUNK_BYTES:
                chunks.setdefault(kind, []).append([])
                sizes[kind] = 0
            chunks[kind][-1].append((i, row))
            sizes[kind] += size
        return [(sent, chunk) for (sent, _), of_kind in chunks.items() for chunk in of_kind]

    def _chunk(
        self, context: Context, target: Target, chunk: Chunk, sent: Sent, outcomes: list[T | DuoserveError | None]
    ) -> Steps[None]:
        """Fills in the outcomes of one chunk; a chunk that the server refuses is split."""
        context.record.sent = sent
        try:
            found = yield from self._ask(context, target, [row for _, row in chunk], sent)
        except RequestRejected as error:
            limit = batch_limit(error)
            if limit is not None:
                self._limit = min(self._limit, limit)
            if len(chunk) == 1 or error.code != "INVALID_ARGUMENT":
                for i, _ in chunk:
                    outcomes[i] = error
                return
            # A row that the model fails on must not fail the others: halve the chunk until that row is alone.
            size = max(1, min(limit or (len(chunk) + 1) // 2, len(chunk) - 1))
            for start in range(0, len(chunk), size):
                yield from self._chunk(context, target, chunk[start : start + size], sent, outcomes)
        except DuoserveError as error:
            for i, _ in chunk:
                outcomes[i] = error
        else:
            for (i, _), outcome in zip(chunk, found, strict=True):
                outcomes[i] = outcome


def _is_answer(outcome: T | DuoserveError | None) -> TypeGuard[T]:
    return outcome is not None and not isinstance(outcome, DuoserveError)


def _failed(outcome: object) -> bool:
    return isinstance(outcome, DuoserveError) and not isinstance(outcome, InvalidInput)


def _split_pair(pair: Any) -> tuple[Any, Any]:
    if not isinstance(pair, Sequence) or isinstance(pair, (str, bytes)) or len(pair) != 2:
        raise InvalidInput(f"Expected each row to be a pair (image or Clip, text). Received: {type(pair).__name__}")
    return pair[0], pair[1]


def _size(row: Row, sent: Sent, spec: PreprocessingSpec) -> int:
    if sent == "bytes":
        return len(row.data or b"") + len(row.text_bytes)
    return spec.image_height * spec.image_width * 3 + spec.token_length * 4
