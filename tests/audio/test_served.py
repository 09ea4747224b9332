"""A model of clips from the gate to the client: the same answer in every way, and unsuitable input is refused."""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import json
import urllib.request
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from duoserve import AsyncClient, Client, Clip, InvalidInput, PreprocessingSpec, RequestRejected, UnsupportedModel
from duoserve.artifact.samples import GOLDEN_PATH, load_samples
from duoserve.cli import main
from duoserve.contract import SERVING_BYTES
from export.errors import GateError
from export.graph.audio import AudioDecoder
from export.publish.savedmodel import Published, export_version
from export.publish.store import ModelStore
from serving.local.testing import LocalServer
from serving.rollout.package import contract_of, incompatible
from serving.rollout.trial.comparison import from_samples, read_inputs
from tests.audio.conftest import NAME, melody, packed, wav
from tests.client.fake import FakeServer, Version
from tests.export.conftest import build_model, encoded

TEXT = "hot air balloon"
PICTURE = encoded(60, 60, "PNG")


def test_every_way_gives_the_same_answer(server: LocalServer) -> None:
    data = wav(7, rate=44_100)
    answers = []
    for send in ("tensors", "bytes"):
        with Client(server.address, model=NAME, send=send) as client:
            answers.append(client.predict(audio=data, text=TEXT))
            assert answers[-1].sent == send
            assert not np.allclose(client.predict(audio=wav(8), text=TEXT).probabilities, answers[-1].probabilities)
    row = {"audio_bytes": {"b64": base64.b64encode(data).decode()}, "text": TEXT}
    request = urllib.request.Request(
        f"http://127.0.0.1:{server.rest_port}/v1/models/{NAME}:predict",
        json.dumps({"signature_name": SERVING_BYTES, "instances": [row]}).encode(),
    )
    with urllib.request.urlopen(request, timeout=20) as reply:
        by_rest = json.load(reply)["predictions"][0]
    for probabilities in (answers[1].probabilities, by_rest["probabilities"]):
        np.testing.assert_allclose(probabilities, answers[0].probabilities, atol=1e-5)
    assert by_rest["label"] == answers[0].label == answers[1].label


def test_flac_ogg_and_arrays_go_as_tensors(server: LocalServer) -> None:
    sources = [packed(melody(), 16_000, "FLAC"), packed(melody(), 16_000, "OGG"), Clip(melody(), 16_000)]
    with Client(server.address, model=NAME) as client:
        for source in sources:
            assert client.predict(audio=source, text=TEXT).sent == "tensors"
    with Client(server.address, model=NAME, send="bytes") as client:
        for source, said in zip(
            sources, ("a WAV, .* FLAC", "a WAV, .* OGG", "an encoded audio .* samples"), strict=True
        ):
            with pytest.raises(InvalidInput, match=f"Expected {said}"):
                client.predict(audio=source, text=TEXT)


def test_a_batch_keeps_good_clips_when_others_are_broken(server: LocalServer) -> None:
    clips = [Clip(wav(seed)) for seed in range(3)]
    with Client(server.address, model=NAME, max_batch_size=4) as client:
        alone = [client.predict(clip, TEXT).probabilities for clip in clips]
        items = [(clips[0], TEXT), (Clip(wav()[:-9]), TEXT), (clips[1], TEXT), (PICTURE, TEXT), (clips[2], TEXT)]
        found = client.predict_batch(items)
        assert {i: type(error) for i, error in found.errors.items()} == {1: InvalidInput, 3: UnsupportedModel}
        for position, expected in zip((0, 2, 4), alone, strict=True):
            np.testing.assert_allclose(found[position].probabilities, expected, atol=1e-6)


def test_the_async_client_and_the_command_line(server: LocalServer, tmp_path: Path, capsys) -> None:
    async def ask() -> str:
        async with AsyncClient(server.address, model=NAME) as client:
            return (await client.predict(audio=wav(3), text=TEXT)).label

    path = tmp_path / "word.wav"
    path.write_bytes(wav(3))
    where = [f"--server={server.address}", f"--model={NAME}"]
    assert main(["predict", *where, "--audio", str(path), "--text", TEXT, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["label"] == asyncio.run(ask())
    assert main(["describe", *where]) == 0
    assert "audio         0.62 s at 16000 Hz, as 20 bands from 60 to 7600 Hz in 30 frames" in capsys.readouterr().out
    assert main(["bench", *where, "--duration=0.2", "--warmup=0", "--concurrency=1"]) == 0
    assert main(["predict", *where, "--image", str(path), "--text", TEXT]) == 2
    assert "Expected image to be a JPEG, PNG or WebP" in capsys.readouterr().err


def test_silence_explains_nothing_and_the_rest_is_drawn_on_the_spectrogram(
    server: LocalServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    samples = melody(seconds=0.6)
    samples[len(samples) // 2 :] = 0
    with Client(server.address, model=NAME, timeout=60) as client:
        found = client.explain(audio=Clip(samples, 16_000), text=TEXT)
        columns = np.flatnonzero(np.any(found.pixels, axis=(0, 2))).max() * 8 // found.pixels.shape[1]
        np.testing.assert_allclose(found.image_relevance[:, columns + 1 :], 0, atol=1e-6)
        assert np.abs(found.image_relevance[:, :columns]).max() > 1e-5
        seen = client.preprocessor().audio(Clip(samples, 16_000))
    np.testing.assert_array_equal(found.pixels, seen)
    (tmp_path / "word.wav").write_bytes(wav(3))
    where = [f"--server={server.address}", f"--model={NAME}", "--timeout=60", f"--audio={tmp_path / 'word.wav'}"]
    assert main(["explain", *where, f"--text={TEXT}", f"--out={tmp_path / 'heat.png'}"]) == 0
    assert "audio " in capsys.readouterr().out
    with Image.open(tmp_path / "heat.png") as heat:
        assert heat.size == (330, 220), "the spectrogram, enlarged"


def test_an_image_and_a_clip_are_refused_where_they_do_not_belong(server: LocalServer, spec: PreprocessingSpec) -> None:
    with Client(server.address, model=NAME) as client:
        with pytest.raises(
            UnsupportedModel, match=r"Expected audio \(and text\), which this version takes\. Received: image"
        ):
            client.predict(PICTURE, TEXT)
        with pytest.raises(UnsupportedModel, match=r"Expected audio and text: .* Received: no audio"):
            client.predict(text=TEXT)
        with pytest.raises(InvalidInput, match=r"Expected an image or audio\. Received: both"):
            client.predict(PICTURE, TEXT, audio=wav())
        with pytest.raises(InvalidInput, match=r"Expected audio, which the model takes\. Received: image"):
            client.preprocessor().image(PICTURE)
        with pytest.raises(RequestRejected, match="Expected audio_bytes to be a whole WAV"):
            client.run(SERVING_BYTES, {"audio_bytes": np.array([PICTURE], object), "text": np.array([TEXT], object)})
    images = Version(dataclasses.replace(spec, audio=None))
    refused = pytest.raises(
        UnsupportedModel, match=r"Expected image \(and text\), which this version takes\. Received: audio"
    )
    with FakeServer(images) as fake, Client(fake.address, model="pairs") as client, refused:
        client.predict(audio=wav(), text=TEXT)


@pytest.mark.parametrize("send", ["tensors", "bytes"])
def test_a_label_that_moves_to_clips_is_followed(spec: PreprocessingSpec, send: str) -> None:
    images, clips = Version(dataclasses.replace(spec, audio=None)), Version(dataclasses.replace(spec, version=2))
    with (
        FakeServer(images, clips, labels={"stable": 1}) as fake,
        Client(fake.address, model="pairs", label="stable", send=send) as client,
    ):
        assert client.predict(PICTURE, TEXT).version == 1
        fake.labels["stable"] = 2
        assert client.predict(audio=wav(), text=TEXT).version == 2
        fake.labels["stable"] = 1
        with pytest.raises(UnsupportedModel, match="Expected image"):
            client.predict(audio=wav(), text=TEXT)
        assert client.predict(PICTURE, TEXT).version == 1


def test_a_rollout_from_images_to_clips_is_incompatible(spec: PreprocessingSpec) -> None:
    images, clips = contract_of(dataclasses.replace(spec, audio=None)), contract_of(spec)
    findings = incompatible(images, clips, "follow")
    assert "serving_bytes, input image_bytes: expected string array of shape (batch,). Received: none" in findings


def test_golden_samples_and_shadow_inputs_are_clips(published: Published, tmp_path: Path) -> None:
    samples = load_samples((published.path / GOLDEN_PATH).read_bytes())
    assert [sample.audio_bytes[:4] for sample in samples] == [b"RIFF"] * 2 and not any(
        one.image_bytes for one in samples
    )
    assert [type(one.image) for one in from_samples(samples, samples)] == [Clip] * 2
    (tmp_path / "a.wav").write_bytes(wav())
    (tmp_path / "shadow.csv").write_text("audio,text\na.wav,red cat\n", encoding="utf-8")
    assert [type(one.image) for one in read_inputs(tmp_path / "shadow.csv", 10)] == [Clip]


def test_a_graph_with_another_spectrogram_is_not_published(
    spec: PreprocessingSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw = AudioDecoder._draw

    def darker(self: AudioDecoder, samples: tf.Tensor) -> tf.Tensor:
        image = draw(self, samples)
        return image - tf.minimum(image, 3)

    monkeypatch.setattr(AudioDecoder, "_draw", darker)
    with pytest.raises(GateError, match="parity: serving_bytes"):
        export_version(build_model(spec), spec, [(wav(), TEXT)], ModelStore(tmp_path, NAME), batch_sizes=(1,))
