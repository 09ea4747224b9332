"""`embed`, of both clients: with the input of its version, through a rollout, or refused by our own error."""

from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from duoserve import BadReply, Canary, EmbeddingBatch, InvalidInput, PreprocessingSpec, Preprocessor, UnsupportedModel
from duoserve.cli import main
from tests.client.fake import Abort, FakeServer, Version

MakeClient = Callable[..., Any]


@pytest.fixture
def specs(spec1: PreprocessingSpec, spec2: PreprocessingSpec, spec3: PreprocessingSpec) -> dict[int, PreprocessingSpec]:
    """1 and 2 can embed, and prepare differently; 3 can't; 4 prepares as 1 and can't."""
    with_it = {1: dataclasses.replace(spec1, embedding_length=5), 2: dataclasses.replace(spec2, embedding_length=7)}
    return {**with_it, 3: spec3, 4: dataclasses.replace(spec1, version=4)}


@pytest.fixture
def server(specs: dict[int, PreprocessingSpec]) -> Iterator[FakeServer]:
    versions = [Version(spec, tensor_content=number == 2) for number, spec in specs.items()]
    with FakeServer(*versions, labels={"stable": 1, "canary": 2}) as running:
        yield running


def expected(spec: PreprocessingSpec, image: bytes, text: str) -> np.ndarray:
    preprocessor = Preprocessor(spec)
    return Version(spec).embedding(preprocessor.image(image)[None], preprocessor.tokens(text)[None])[0]


@pytest.mark.parametrize("send", ["auto", "bytes"])
def test_it_follows_a_label_to_another_version(
    make_client: MakeClient, server: FakeServer, specs: dict[int, PreprocessingSpec], jpeg: bytes, send: str
) -> None:
    client = make_client(server.address, label="stable", send=send)
    for version in (1, 2, 1):
        server.labels["stable"] = version
        for _ in range(2):
            found = client.embed(jpeg, "red heart")
            assert found.version == version and found.target == "stable"
            np.testing.assert_array_equal(found.vector, expected(specs[version], jpeg, "red heart"))
    assert len(server.predictions("describe")) == 3  # one for each move: the server refuses the other's shapes


@pytest.mark.parametrize("lacks", [3, 4], ids=["prepares otherwise", "prepares alike"])
def test_a_version_without_the_signature_is_refused(
    make_client: MakeClient, server: FakeServer, jpeg: bytes, lacks: int
) -> None:
    client = make_client(server.address, label="stable")
    refused = pytest.raises(UnsupportedModel, match=r"a version with the signature embed\. Received: one that was expo")
    assert client.embed(jpeg, "red heart").version == 1
    server.labels["stable"] = lacks
    for _ in range(2):
        with refused:
            client.embed(jpeg, "red heart")
    assert client.predict(jpeg, "red heart").version == lacks
    server.labels["stable"] = 1
    assert client.embed(jpeg, "red heart").version == 1


def test_versions_that_prepare_alike_are_not_asked_twice(
    make_client: MakeClient, server: FakeServer, jpeg: bytes
) -> None:
    client = make_client(server.address, label="stable")
    client.predict(jpeg, "red heart")
    server.labels["stable"] = 4
    client.predict(jpeg, "red heart")
    assert len(server.predictions()) == 2
    assert client.describe().embedding_length == 0


def test_a_batch_keeps_its_order_and_one_bad_row_fails_alone(
    make_client: MakeClient, server: FakeServer, specs: dict[int, PreprocessingSpec], jpeg: bytes
) -> None:
    client = make_client(server.address, label="stable", max_batch_size=3)
    texts = [f"red heart {number}" for number in range(8)]
    found = client.embed_batch([(jpeg, text) for text in texts])
    assert found.vectors.shape == (8, 5) and not found.errors
    for vector, text in zip(found.vectors, texts, strict=True):
        np.testing.assert_array_equal(vector, expected(specs[1], jpeg, text))
    found = client.embed_batch([(jpeg, "a"), (b"junk", "b"), (jpeg, "c"), (None, "d")])
    assert [type(found.errors.get(place)) for place in range(4)] == [
        type(None),
        InvalidInput,
        type(None),
        UnsupportedModel,
    ]
    assert found[2].version == 1 and len(found[2:]) == 2 and isinstance(found[2:], EmbeddingBatch)
    with pytest.raises(InvalidInput):
        _ = found.vectors
    assert client.embed_batch([]).vectors.shape == (0, 0)


def test_a_batch_is_of_one_version_whatever_is_rolled_out_meanwhile(
    make_client: MakeClient, server: FakeServer, jpeg: bytes
) -> None:
    def move(request: Any, context: Any) -> None:
        if request.model_spec.signature_name == "embed":
            server.labels["stable"] = 2

    server.on_predict = move
    client = make_client(server.address, label="stable", max_batch_size=2)
    found = client.embed_batch([(jpeg, "red heart")] * 9)
    assert {one.version for one in found} == {1} and server.labels["stable"] == 2
    assert {one.version for one in client.embed_batch([(jpeg, "red heart")] * 3)} == {2}


def test_a_batch_for_a_version_without_it_is_refused_whole(
    make_client: MakeClient, server: FakeServer, jpeg: bytes
) -> None:
    with pytest.raises(UnsupportedModel, match="Expected a version with the signature embed"):
        make_client(server.address, version=3).embed_batch([(jpeg, "red heart")] * 3)
    with pytest.raises(InvalidInput):
        make_client(server.address, label="stable").embed_batch(7)
    assert not server.predictions("embed")


def test_it_does_not_go_to_a_canary(make_client: MakeClient, server: FakeServer, jpeg: bytes) -> None:
    client = make_client(server.address, label="stable", canary=Canary(label="canary", percent=100))
    assert client.embed(jpeg, "red heart").version == 1


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (lambda right: right[:, :4], r"Expected embedding to be float32 array of shape \(1, 5\)"),
        (lambda right: right * np.nan, "Expected finite embedding"),
    ],
)
def test_a_reply_that_breaks_the_contract_is_named(
    make_client: MakeClient,
    server: FakeServer,
    jpeg: bytes,
    monkeypatch: pytest.MonkeyPatch,
    answer: Callable[[np.ndarray], np.ndarray],
    said: str,
) -> None:
    right = Version.embedding
    monkeypatch.setattr(Version, "embedding", lambda self, *inputs: answer(right(self, *inputs)))
    with pytest.raises(BadReply, match=said):
        make_client(server.address, label="stable").embed(jpeg, "red heart")


def test_bad_input_is_refused_before_anything_is_sent(make_client: MakeClient, server: FakeServer) -> None:
    client = make_client(server.address, label="stable")
    for given in ({"text": "red heart", "image": b"junk"}, {}, {"image": None, "text": " "}):
        with pytest.raises(InvalidInput):
            client.embed(**given)
    assert not server.predictions("embed")


def test_a_refused_request_is_not_repeated_indefinitely(
    make_client: MakeClient, server: FakeServer, jpeg: bytes
) -> None:
    def refuse(request: Any, context: Any) -> None:
        if request.model_spec.signature_name == "embed":
            raise Abort(grpc.StatusCode.FAILED_PRECONDITION, 'Serving signature key "embed" not found.')

    server.on_predict = refuse
    with pytest.raises(UnsupportedModel):
        make_client(server.address, label="stable").embed(jpeg, "red heart")
    assert len(server.predictions("embed")) == 2


def test_the_command(server: FakeServer, jpeg: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "photo.jpg").write_bytes(jpeg)
    where = ["embed", f"--server={server.address}", "--model=pairs", f"--image={tmp_path / 'photo.jpg'}", "--text=red"]
    assert main([*where, "--label=stable"]) == 0
    numbers, last = capsys.readouterr().out.splitlines()
    assert len(numbers.split()) == 5 and last == "version 1, 5 numbers"
    assert main([*where, "--label=stable", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    np.testing.assert_allclose(record["vector"], [float(number) for number in numbers.split()], atol=1e-6)
    assert record["version"] == 1 and record["target"] == "stable"
    assert main([*where, "--version=3", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["error"] == "UnsupportedModel"


def test_a_row_that_can_not_be_read_fails_alone(make_client: MakeClient, server: FakeServer, jpeg: bytes) -> None:
    file = io.BytesIO(jpeg)
    file.close()
    found = make_client(server.address, label="stable").embed_batch([(jpeg, "a"), (file, "x"), (jpeg, "b")])
    assert set(found.errors) == {1} and isinstance(found.errors[1], InvalidInput)
    np.testing.assert_array_equal(found[2].vector, make_client(server.address, label="stable").embed(jpeg, "b").vector)
