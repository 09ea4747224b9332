"""The targets of the page: each is a label or the latest version, with its own client."""

from __future__ import annotations

import asyncio
import base64
import functools
import io
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final

from PIL import Image

from duoserve import TLS, AsyncClient, Clip, DuoserveError, Explanation, Prediction, PreprocessingSpec
from duoserve.preprocessing.images import open_image

LATEST: Final = "latest"
"""The target without a label: the newest version that the server has loaded."""

_HEAT_MAP: Final = 480  # pixels of its longer side


_Ask = Callable[..., Awaitable[dict[str, Any]]]


def _record(ask: _Ask) -> _Ask:
    """A record for the page: the target's name, and what it answers or the client's error."""

    @functools.wraps(ask)
    async def asked(target: Target, *inputs: Any) -> dict[str, Any]:
        try:
            found = await ask(target, *inputs)
        except DuoserveError as error:
            found = {"error": error_record(error)}
        return {"name": target.name, **found}

    return asked


class Target:
    """A label or the latest version, and what is known of its version.

    Attributes:
        name: A version label, or `LATEST`.
        label: The version label, None for the latest version.
        client: The production client, as any backend would use it.
        spec: The last spec of its version, None before the first.
    """

    def __init__(self, name: str, client: AsyncClient) -> None:
        self.name = name
        self.label = None if name == LATEST else name
        self.client = client
        self.spec: PreprocessingSpec | None = None

    @_record
    async def look(self) -> dict[str, Any]:
        """Asks the server for the target's version."""
        spec = self.spec = await self.client.describe()
        return {
            "version": spec.version,
            "medium": spec.medium,
            "size": [spec.image_height, spec.image_width],
            "tokens": spec.token_length,
            "columns": f"{len(spec.labels)} {spec.answer.columns}",
            "optional": list(spec.optional),
            "explains": spec.explain_grid is not None,
        }

    @_record
    async def predict(self, data: bytes | None, text: str | None) -> dict[str, Any]:
        """The answer and the milliseconds that the client took.

        Args:
            data: A file: an image, or a clip where the version takes clips. None without one.
            text: The words, None without any.
        """
        spec = self.spec or await self.client.describe()
        begin = time.perf_counter()
        answer = await self.client.predict(_given(data, spec), text)
        return {**_answered(answer), "milliseconds": (time.perf_counter() - begin) * 1e3}

    @_record
    async def explain(self, data: bytes | None, text: str | None) -> dict[str, Any]:
        """The explanation, drawn by the client.

        Takes the arguments of `predict`. `heat_map` is a PNG in base64, null without a file.
        """
        spec = self.spec or await self.client.describe()
        found = await self.client.explain(_given(data, spec), text)
        heat_map = None
        if data is not None:
            heat_map = await asyncio.to_thread(_heat_map, found, None if spec.audio else data)
        return {
            "version": found.version,
            "label": found.label,
            "is_score": found.kind.decided is None,
            "image_share": found.image_share,
            "text_share": found.text_share,
            "heat_map": heat_map,
            "text": found.text,
            "words": [word._asdict() for word in found.words],
        }

    async def seen(self, data: bytes) -> bytes:
        """A PNG of what the version sees of a file: the image in its size, or the clip's spectrogram.

        Raises:
            DuoserveError: The version can't read the file, or the server did not return its spec.
        """
        preprocessor = await self.client.preprocessor()
        return _png(Image.fromarray(await asyncio.to_thread(preprocessor.decoded, data)))


class Targets(dict[str, Target]):
    """All targets of the page, by name, in its order.

    Args:
        server: "host:port", or another address for `AsyncClient`.
        model: Name of the model.
        labels: Version labels. The latest version comes last.
        timeout: Seconds for the whole call.
        tls: Encryption, None for plain text.
    """

    def __init__(self, server: str, model: str, labels: Iterable[str], *, timeout: float, tls: TLS | None) -> None:
        self.server = server
        self.model = model
        for name in dict.fromkeys((*labels, LATEST)):
            label = None if name == LATEST else name
            self[name] = Target(name, AsyncClient(server, model=model, label=label, timeout=timeout, tls=tls))

    async def look(self) -> list[dict[str, Any]]:
        """A record for each target: its version, or the client's error."""
        return await asyncio.gather(*(target.look() for target in self.values()))

    async def close(self) -> None:
        """Closes the clients."""
        for target in self.values():
            await target.client.close()


def _given(data: bytes | None, spec: PreprocessingSpec) -> bytes | Clip | None:
    return Clip(data) if spec.audio and data is not None else data


def _answered(answer: Prediction) -> dict[str, Any]:
    """An answer for the page: `said` and `decision` as text, the columns that were chosen, and what is drawn: bars
    for `classes`, the most probable first, or a list of `scores`."""
    gives = answer.kind.gives
    best = answer.top(len(answer.labels)) if "top" in gives else ()
    scores: list[tuple[str, str]] = []
    if "scores" in gives:
        scores = [(name, f"{value:.6g} {answer.units[name]}".rstrip()) for name, value in answer.scores.items()]
    chosen = [answer.labels[column] for column in answer.kind.chosen(answer.values)]
    said = ", ".join(chosen or [f"{name} {value}" for name, value in scores] or [f"no {answer.kind.columns}"])
    return {
        "version": answer.version,
        "said": said,
        "decision": answer.decision,
        "chosen": chosen,
        "probability": answer.probability if "probability" in gives else None,
        "classes": [[scored.label, scored.probability] for scored in best],
        "scores": scores,
        "sent": answer.sent,
    }


def _heat_map(found: Explanation, data: bytes | None) -> str:
    """Over the image, or over the spectrogram that the version saw."""
    under = None
    if data is not None:
        under = open_image(data, found.background)
        under.thumbnail((_HEAT_MAP, _HEAT_MAP))
    return base64.b64encode(_png(found.heat_map(under))).decode("ascii")


def _png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def error_record(error: DuoserveError) -> dict[str, Any]:
    """The client's error."""
    return {"kind": type(error).__name__, "message": str(error), "retryable": error.retryable}
