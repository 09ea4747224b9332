"""A file, a file object or a path that can't be read is refused with our own error, and fails no other row."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from duoserve import Clip, InvalidInput
from tests.client.fake import FakeServer

MakeClient = Callable[..., Any]


class Raises:
    """A file object whose reading fails."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def read(self) -> bytes:
        raise self.error


class Nowhere:
    """A path that has gone, such as one of a store that was closed."""

    def __fspath__(self) -> str:
        raise RuntimeError("the store is closed")


class Hidden:
    """Raises as soon as it is looked at."""

    @property
    def read(self) -> Any:
        raise OSError("the connection is cut")


def closed() -> io.BytesIO:
    """A file object that was closed."""
    file = io.BytesIO(b"x")
    file.close()
    return file


def released() -> memoryview:
    """Memory that was given back."""
    view = memoryview(bytearray(4))
    view.release()
    return view


SOURCES: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (closed, ValueError, "closed file"),
    (lambda: Raises(OSError(5, "Input/output error")), OSError, "Input/output error"),
    (lambda: Raises(TimeoutError()), OSError, "TimeoutError"),
    (lambda: Raises(StopIteration("over")), StopIteration, "over"),
    (Nowhere, RuntimeError, "the store is closed"),
    (Hidden, OSError, "the connection is cut"),
    (released, ValueError, "released"),
    (lambda: "a\0b", ValueError, "null"),
    (lambda: "missing.jpg", FileNotFoundError, "missing.jpg"),
]
NAMES = ["closed", "raises OSError", "no words", "StopIteration", "path", "look", "released", "null", "missing"]


@pytest.mark.parametrize(("make", "cause", "words"), SOURCES, ids=NAMES)
def test_a_source_that_can_not_be_read(
    make_client: MakeClient, server: FakeServer, jpeg: bytes, make: Callable[[], Any], cause: type, words: str
) -> None:
    client = make_client(server.address, label="stable")
    for method in ("predict", "embed", "explain"):
        for name in ("image", "audio"):
            with pytest.raises(
                InvalidInput, match=rf"Expected {name} to be a readable file. Received: .*{words}"
            ) as bad:
                getattr(client, method)(text="x", **{name: make()})
            assert isinstance(bad.value.__cause__, cause)
    for pair in ((make(), "x"), (Clip(make()), "x")):
        found = client.predict_batch([(jpeg, "a"), pair, (jpeg, "b")])
        assert set(found.errors) == {1} and found[0].version == found[2].version == 1
        assert isinstance(found.errors[1], InvalidInput) and isinstance(found.errors[1].__cause__, cause)


def test_a_path_of_bytes_is_a_path(make_client: MakeClient, server: FakeServer, jpeg: bytes, tmp_path: Path) -> None:
    class Encoded:
        def __fspath__(self) -> bytes:
            return bytes(tmp_path / "photo.jpg")

    (tmp_path / "photo.jpg").write_bytes(jpeg)
    assert make_client(server.address).predict(Encoded(), "x").version == 3
