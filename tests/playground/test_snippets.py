"""The snippets: no text and no name escapes its quotes, and grpcurl's descriptors are upstream's."""

from __future__ import annotations

import base64
import json
import subprocess
from typing import Any

import pytest
from google.protobuf import descriptor, descriptor_pb2, descriptor_pool, json_format, message_factory
from hypothesis import given, settings
from hypothesis import strategies as st

from playground.protoset import DTYPES, protoset
from playground.snippets import Asked, curl, grpcurl, python


def asked_for(**changes: Any) -> Asked:
    given = {"server": "127.0.0.1:8500", "rest_url": "http://127.0.0.1:8501", "model": "pets", "label": "stable"}
    return Asked(**{**given, "file": "photo.png", "text": "red cat", "medium": "image", **changes})


@settings(max_examples=60, deadline=None)
@given(
    text=st.text(st.characters(exclude_categories=["Cs"]), min_size=1) | st.text("$`\\\"'!n\n{}() ", min_size=1),
    named=st.text("aZ09-_. $`'\"\\", min_size=1),
    label=st.none() | st.text("az-$`'\"\\ ", min_size=1),
    name=st.text("az. $`'\"\\\n-", min_size=1).filter(lambda name: set(name) != {"."}),
)
def test_a_shell_leaves_every_text_and_name_alone(
    tmp_path_factory: pytest.TempPathFactory, text: str, named: str, label: str | None, name: str
) -> None:
    folder = tmp_path_factory.mktemp("here")
    (folder / name).write_bytes(b"\x00the file\xff")
    asked = asked_for(text=text, model=named, label=label, file=name)
    echo = 'curl() { case "$*" in *-sO*) ;; *) cat ;; esac; }; grpcurl() { cat; }\n'

    def sent(script: str) -> Any:
        run = subprocess.run(["bash", "-c", echo + script], cwd=folder, capture_output=True, check=True)
        return json.loads(run.stdout)

    (row,) = sent(curl(asked))["instances"]
    assert row["text"] == text and base64.b64decode(row["image_bytes"]["b64"]) == b"\x00the file\xff"
    request = sent(grpcurl(asked, "http://127.0.0.1:8600"))
    wanted = {"name": named, "signature_name": "serving_bytes"}
    assert request["model_spec"] == wanted | ({} if label is None else {"version_label": label})
    (words,) = request["inputs"]["text"]["string_val"]
    assert base64.b64decode(words).decode() == text
    (picture,) = request["inputs"]["image_bytes"]["string_val"]
    assert base64.b64decode(picture) == b"\x00the file\xff"

    calls: list[Any] = []
    code = compile(python(asked).replace("from duoserve import Client", ""), "snippet", "exec")
    exec(code, {"Client": Recorder(calls), "print": lambda *_: None})
    options = {"model": named} | ({} if label is None else {"label": label})
    assert calls == [(("127.0.0.1:8500",), options), ((), {"image": name, "text": text})]


class Recorder:
    """Stands in for Client: writes down how it is called."""

    label = probability = version = None

    def __init__(self, calls: list[Any]) -> None:
        self._calls = calls

    def __call__(self, *values: Any, **options: Any) -> Recorder:
        self._calls.append((values, options))
        return self

    predict = __call__

    def __enter__(self) -> Recorder:
        return self

    def __exit__(self, *_: object) -> None: ...


def test_a_missing_input_is_left_out_or_empty() -> None:
    assert 'predict(text="red cat")' in python(asked_for(file=None))
    assert 'predict(image="photo.png")' in python(asked_for(text=""))
    assert '"image_bytes": {"b64": ""}' in curl(asked_for(file=None))
    assert '"text": ""' in curl(asked_for(text=""))
    assert '"string_val": [""]' in grpcurl(asked_for(text=""), "http://127.0.0.1:8600")


def test_a_version_without_raw_input_is_asked_by_the_client_alone() -> None:
    asked = asked_for(raw=False)
    for snippet in (curl(asked), grpcurl(asked, "http://127.0.0.1:8600")):
        assert all(line.startswith("#") for line in snippet.splitlines())
    assert "client.predict" in python(asked)


def test_tls_and_clips_are_asked_for_as_they_must_be() -> None:
    asked = asked_for(ca="ca.pem", medium="audio", file="clip.wav")
    assert 'tls=TLS(ca="ca.pem")' in python(asked) and 'predict(audio="clip.wav", text=' in python(asked)
    assert "audio_bytes" in curl(asked)
    assert "-cacert ca.pem" in grpcurl(asked, "http://127.0.0.1:8600")


def test_the_descriptors_for_grpcurl_are_tensorflow_servings() -> None:
    """Every message has upstream's fields by name, number and kind; the request is the same in both."""
    from tensorflow.core.framework import tensor_pb2, tensor_shape_pb2, types_pb2
    from tensorflow_serving.apis import model_pb2, predict_pb2

    pool = descriptor_pool.DescriptorPool()
    pool.Add(descriptor_pb2.FileDescriptorSet.FromString(protoset()).file[0])

    def same(ours: descriptor.Descriptor, theirs: descriptor.Descriptor) -> None:
        for field in ours.fields:
            other = theirs.fields_by_name[field.name]
            assert (field.number, field.type, field.is_repeated) == (other.number, other.type, other.is_repeated)
        for name, nested in ours.nested_types_by_name.items():
            same(nested, theirs.nested_types_by_name[name])

    for real in (
        predict_pb2.PredictRequest,
        predict_pb2.PredictResponse,
        model_pb2.ModelSpec,
        tensor_pb2.TensorProto,
        tensor_shape_pb2.TensorShapeProto,
    ):
        same(pool.FindMessageTypeByName(f"tensorflow.serving.{real.DESCRIPTOR.name}"), real.DESCRIPTOR)
    assert {name: types_pb2.DataType.Value(name) for name in DTYPES} == DTYPES

    script = grpcurl(asked_for(file=None), "http://127.0.0.1:8600")
    body = script[script.index("<<END\n") + 6 : script.rindex("END")]
    ours = message_factory.GetMessageClass(pool.FindMessageTypeByName("tensorflow.serving.PredictRequest"))
    mine, upstream = json_format.Parse(body, ours()), json_format.Parse(body, predict_pb2.PredictRequest())
    assert predict_pb2.PredictRequest.FromString(mine.SerializeToString()) == upstream
    assert "tensorflow.serving.PredictionService/Predict" in script
    assert pool.FindServiceByName("tensorflow.serving.PredictionService").methods_by_name["Predict"]
