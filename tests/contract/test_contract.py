"""The contract survives JSON, and anything else is refused with a clear error."""

from __future__ import annotations

import dataclasses
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from duoserve.artifact.samples import GoldenSample, dump_samples, load_samples
from duoserve.contract import (
    Answer,
    AudioSpec,
    ContractError,
    OneClass,
    PreprocessingSpec,
    Tags,
    TensorSpec,
    YesNo,
    signatures,
)

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)

pictures = st.builds(
    PreprocessingSpec,
    image_height=st.integers(1, 4096),
    image_width=st.integers(1, 4096),
    token_length=st.integers(1, 512),
    tokenizer=st.binary(min_size=1, max_size=200),
    labels=st.lists(TEXT.filter(bool), min_size=1, max_size=8, unique=True).map(tuple),
    version=st.integers(1, 2**63 - 1),
    pad_id=st.integers(0, 9),
    optional=st.lists(st.sampled_from(["image", "text"]), max_size=2).map(tuple),
    background=st.none() | st.tuples(*[st.integers(0, 255)] * 3),
    embedding_length=st.integers(0, 99),
    explain_grid=st.none() | st.just((1, 1)),
)
answers = st.sampled_from([OneClass(), YesNo()]) | st.builds(Tags, st.lists(st.floats(0.01, 1), max_size=4).map(tuple))
audio_specs = st.builds(
    AudioSpec,
    sample_rate=st.integers(8000, 192_000),
    window=st.integers(400, 4000),
    hop=st.integers(1, 400),
    low_hz=st.integers(0, 500),
    high_hz=st.integers(3000, 4000),
    range_db=st.integers(1, 200),
)
clips = st.builds(
    lambda spec, bands, audio: dataclasses.replace(spec, image_height=bands, audio=audio, background=None),
    pictures,
    bands=st.integers(1, 8),
    audio=audio_specs,
)
specs = pictures | clips

SPEC = PreprocessingSpec(24, 32, 6, b"tokenizer", ("cat", "dog"), 3)


@given(spec=specs)
def test_a_spec_survives_json(spec: PreprocessingSpec) -> None:
    assert PreprocessingSpec.from_json(spec.to_json()) == spec
    assert PreprocessingSpec.from_json(spec.to_json().encode("utf-8")) == spec


@given(spec=specs, version=st.integers(1, 99))
def test_the_digest_is_of_the_preprocessing_not_of_the_version(spec: PreprocessingSpec, version: int) -> None:
    assert dataclasses.replace(spec, version=version).digest == spec.digest
    assert dataclasses.replace(spec, token_length=spec.token_length + 1).digest != spec.digest
    assert dataclasses.replace(spec, labels=(*spec.labels, "one more label " * 4)).digest != spec.digest


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"image_height": 0}, "Expected image_height to be an integer of at least 1. Received: 0"),
        ({"token_length": "6"}, "Expected token_length to be an integer of at least 1. Received: '6'"),
        ({"version": True}, "Expected version to be an integer of at least 1. Received: True"),
        ({"tokenizer": b""}, "Expected tokenizer to be the bytes of a tokenizer. Received: nothing"),
        ({"labels": ()}, "Expected labels to be non-empty strings, at least one. Received: ()"),
        ({"labels": ("cat", "")}, "Expected labels to be non-empty strings"),
        ({"labels": ("cat", "dog", "cat")}, "Expected labels to be distinct. Received twice: cat"),
        ({"optional": ("image", "tokens")}, "Expected optional to be a tuple of 'image', 'text' or both"),
        ({"optional": "text"}, "Expected optional to be a tuple of 'image', 'text' or both. Received: 'text'"),
        ({"background": (1, 2)}, "Expected background to be (red, green, blue), for images only. Received: (1, 2)"),
        (
            {"background": (0, 0, 256)},
            "each colour of background to be an integer from 0 to 255. Received: 256",
        ),
        ({"background": (0, 0, 0), "audio": AudioSpec()}, "for images only"),
        ({"explain_grid": (25, 4)}, "Expected rows of explain_grid to be an integer from 1 to 24. Received: 25"),
        ({"explain_grid": (4, 0)}, "Expected columns of explain_grid to be an integer from 1 to 32. Received: 0"),
        ({"explain_grid": [4, 4]}, "Expected explain_grid to be (rows, columns). Received: [4, 4]"),
        ({"embedding_length": -1}, "Expected embedding_length to be an integer of at least 0. Received: -1"),
    ],
)
def test_a_spec_that_makes_no_sense_is_refused(change: dict[str, object], said: str) -> None:
    with pytest.raises(ContractError) as caught:
        dataclasses.replace(SPEC, **change)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"format": 9}, "Expected a PreprocessingSpec of format 1 to 3. Received: format 9 (a newer release exported"),
        ({"format": [1]}, "Expected a PreprocessingSpec of format 1 to 3. Received: format [1]"),
        ({"optional": ["text"]}, "(the specification was changed after it was written)"),
        ({"optional": [["text"]]}, "Expected optional to be a tuple"),
        ({"optional": "text"}, "Expected optional of type list in the PreprocessingSpec. Received: 'text'"),
        ({"labels": ["dog", "cat"]}, "(the specification was changed after it was written)"),
        ({"tokenizer": "@@"}, "Expected tokenizer in base64"),
        ({"embedding_length": "5"}, "Expected embedding_length of type int in the PreprocessingSpec. Received: '5'"),
        ({"explain_grid": [8]}, "Expected explain_grid to be (rows, columns). Received: (8,)"),
        ({"image_width": None}, "Expected image_width of type int in the PreprocessingSpec. Received: None"),
    ],
)
def test_json_that_is_not_a_spec_is_refused(change: dict[str, object], said: str) -> None:
    with pytest.raises(ContractError) as caught:
        PreprocessingSpec.from_json(json.dumps({**json.loads(SPEC.to_json()), **change}))
    assert said in str(caught.value)


def test_a_spec_without_anything_optional_is_as_it_always_was() -> None:
    written = json.loads(SPEC.to_json())
    assert written["format"] == 1
    assert written.keys() & {"optional", "audio", "background", "embedding_length", "explain_grid"} == set()
    # Versions that were published before carry this one.
    assert SPEC.digest == "a5811f702687faf23ed98182bd5daa78e4f5f84caf950164a760826c3fa98844"


def test_a_spec_with_a_background_tells_an_older_client_to_update() -> None:
    spec = dataclasses.replace(SPEC, background=(255, 255, 255))
    written = json.loads(spec.to_json())
    assert written["format"] == 3 and written["background"] == [255, 255, 255]
    assert spec.digest not in (SPEC.digest, dataclasses.replace(SPEC, background=(255, 255, 254)).digest)


@pytest.mark.parametrize("optional", [("image",), ("text",), ("text", "image")])
def test_a_spec_with_something_optional_tells_an_older_client_to_update(optional: tuple[str, ...]) -> None:
    spec = dataclasses.replace(SPEC, optional=optional)
    assert json.loads(spec.to_json())["format"] == 2
    assert spec.digest != SPEC.digest
    assert spec == dataclasses.replace(SPEC, optional=tuple(reversed(optional)) * 2)
    assert spec.digest == dataclasses.replace(SPEC, optional=tuple(reversed(optional))).digest


def test_a_spec_for_clips_tells_an_older_client_to_update_and_names_its_input() -> None:
    spec = dataclasses.replace(SPEC, audio=AudioSpec(), optional=("image",))
    assert json.loads(spec.to_json())["format"] == 2
    assert len({SPEC.digest, spec.digest, dataclasses.replace(spec, audio=AudioSpec(hop=160)).digest}) == 3
    assert [tensor.name for tensor in signatures(spec)["serving_bytes"].inputs] == ["audio_bytes", "text"]
    assert signatures(spec)["serving_default"] == signatures(SPEC)["serving_default"]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"sample_rate": 16000.0}, "Expected sample_rate to be an integer from 4000 to 192000. Received: 16000.0"),
        ({"hop": 641}, "Expected hop to be an integer from 1 to 640. Received: 641"),
        ({"high_hz": 9000}, "Expected high_hz to be an integer from 61 to 8000. Received: 9000"),
        ({"low_hz": 7600}, "Expected high_hz to be an integer from 7601 to 8000. Received: 7600"),
        ({"range_db": 0}, "Expected range_db to be an integer from 1 to 200. Received: 0"),
        ({"window": 64, "hop": 64}, "Expected fewer rows (mel bands) or a longer window: none of 24 bands may be"),
    ],
)
def test_an_audio_spec_that_makes_no_sense_is_refused(change: dict[str, object], said: str) -> None:
    with pytest.raises(ContractError) as caught:
        dataclasses.replace(SPEC, audio=dataclasses.replace(AudioSpec(), **change))
    assert said in str(caught.value)
    with pytest.raises(ContractError, match=r"Expected hop of type int in the PreprocessingSpec\. Received: None"):
        AudioSpec.from_record({**dataclasses.asdict(AudioSpec()), "hop": None})


def test_an_additional_signature_changes_neither_preprocessing_nor_format() -> None:
    spec = dataclasses.replace(SPEC, embedding_length=8, explain_grid=(8, 4))
    assert json.loads(spec.to_json())["format"] == 1
    assert spec.digest == SPEC.digest and spec != SPEC
    added = signatures(spec).keys() - signatures(SPEC).keys()
    assert added == {"embed", "explain"}
    assert signatures(spec)["embed"].inputs == signatures(spec)["serving_default"].inputs
    assert signatures(spec)["embed"].outputs == (TensorSpec("embedding", "float32", (None, 8)),)


@given(junk=st.one_of(st.text(max_size=40), st.binary(max_size=40), st.just("[]"), st.just("null")))
def test_junk_is_refused_and_nothing_else_happens(junk: str | bytes) -> None:
    with pytest.raises(ContractError):
        PreprocessingSpec.from_json(junk)
    with pytest.raises(ContractError):
        load_samples(junk)


def test_keys_of_later_releases_are_ignored() -> None:
    record = {**json.loads(SPEC.to_json()), "video": {"rate": 25}}
    assert PreprocessingSpec.from_json(json.dumps(record)) == SPEC


def test_signatures_have_the_shapes_of_the_spec() -> None:
    found = signatures(SPEC)
    assert {name: [str(tensor) for tensor in each.inputs] for name, each in found.items()} == {
        "serving_default": ["uint8 array of shape (batch, 24, 32, 3)", "int32 array of shape (batch, 6)"],
        "serving_bytes": ["string array of shape (batch,)", "string array of shape (batch,)"],
        "describe": ["string array of shape (batch,)"],
    }
    assert found["serving_default"].outputs == (TensorSpec("probabilities", "float32", (None, 2)),)


@given(
    samples=st.lists(
        st.builds(
            GoldenSample,
            image_bytes=st.binary(max_size=50),
            text=TEXT,
            tokens=st.lists(st.integers(0, 9999), max_size=6).map(tuple),
            values=st.lists(st.floats(0, 1, width=32), max_size=4).map(tuple),
            decision=TEXT,
            embedding=st.lists(st.floats(-1, 1, width=32), max_size=4).map(tuple),
        ),
        min_size=1,
        max_size=3,
    ),
    answer=answers,
)
def test_golden_samples_survive_json(samples: list[GoldenSample], answer: Answer) -> None:
    assert load_samples(dump_samples(samples, answer)) == tuple(samples)
