"""The page shows the production client's answers and errors."""

from __future__ import annotations

import base64
import io
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from duoserve import Client, DuoserveError, PreprocessingSpec, Preprocessor
from tests.audio.conftest import wav
from tests.client.conftest import encoded, photo
from tests.client.fake import FakeServer
from tests.playground.conftest import LABELS, ROOT, Playground

PICTURE = encoded(photo(64, 64, seed=1), "PNG")


def body(image: bytes | None = PICTURE, text: Any = "red cat", target: Any = "stable") -> dict[str, Any]:
    return {"target": target, "data": image and base64.b64encode(image).decode(), "text": text}


@pytest.mark.parametrize("label", ["stable", "canary", None])
def test_an_answer_is_the_clients(playground: Playground, server: FakeServer, label: str | None) -> None:
    status, found = playground.post("/api/predict", body(target=label or "latest"))
    with Client(server.address, model="pairs", label=label) as client:
        answer = client.predict(PICTURE, "red cat")
    assert status == 200 and found["milliseconds"] > 0
    assert (found["decision"], found["version"], found["sent"]) == (answer.label, answer.version, answer.sent)
    assert found["said"] == answer.label and found["chosen"] == [answer.label] and found["scores"] == []
    names, shares = zip(*found["classes"], strict=True)
    assert set(names) == set(LABELS) and list(shares) == sorted(shares, reverse=True)
    np.testing.assert_allclose([dict(found["classes"])[name] for name in answer.labels], answer.probabilities)


@pytest.mark.parametrize(
    ("image", "text"), [(b"GIF89a", "red cat"), (PICTURE, ""), (None, "red cat"), (PICTURE[:50], "red cat")]
)
def test_an_error_is_shown_in_the_clients_words(
    playground: Playground, server: FakeServer, image: bytes | None, text: str
) -> None:
    status, found = playground.post("/api/predict", body(image, text))
    with Client(server.address, model="pairs", label="stable") as client, pytest.raises(DuoserveError) as raised:
        client.predict(image, text or None)
    assert status == 200
    assert found["error"] == {"kind": type(raised.value).__name__, "message": str(raised.value), "retryable": False}


def test_an_explanation_is_the_clients_own(playground: Playground, server: FakeServer) -> None:
    large = encoded(photo(700, 960, seed=1), "PNG")
    status, found = playground.post("/api/explain", body(large, "red cat!"))
    with Client(server.address, model="pairs", label="stable") as client:
        wanted = client.explain(large, "red cat!")
    assert status == 200 and (found["version"], found["label"]) == (wanted.version, wanted.label)
    assert (found["image_share"], found["text_share"]) == (wanted.image_share, wanted.text_share)
    assert found["words"] == [word._asdict() for word in wanted.words] and found["text"] == "red cat!"
    with Image.open(io.BytesIO(large)) as picture, Image.open(io.BytesIO(base64.b64decode(found["heat_map"]))) as heat:
        picture.thumbnail((480, 480))
        np.testing.assert_array_equal(np.asarray(heat), np.asarray(wanted.heat_map(picture)))
    about = {target["name"]: target["explains"] for target in playground.get("/api/about")["targets"]}
    assert about == {"stable": True, "canary": False, "latest": False}
    for refused, kind in ((body(b"GIF89a"), "InvalidInput"), (body(target="canary"), "UnsupportedModel")):
        assert playground.post("/api/explain", refused)[1]["error"]["kind"] == kind


def test_the_version_sees_the_clients_preparation(playground: Playground, specs: dict[int, PreprocessingSpec]) -> None:
    for label, version in (("stable", 1), ("canary", 2)):
        png = playground.post("/api/seen", body(target=label))[1]
        with Image.open(io.BytesIO(png)) as seen:
            np.testing.assert_array_equal(np.asarray(seen), Preprocessor(specs[version]).image(PICTURE))
    assert playground.post("/api/seen", body(b"GIF89a"))[1]["error"]["kind"] == "InvalidInput"


def test_clips_are_taken_where_the_version_takes_clips(clips: Playground, clip_server: FakeServer) -> None:
    sound = wav(seed=3)
    about = clips.get("/api/about")["targets"][0]
    assert (about["medium"], about["version"]) == ("audio", 1)
    found = clips.post("/api/predict", body(sound))[1]
    with Client(clip_server.address, model="pairs") as client:
        answer = client.predict(audio=sound, text="red cat")
        spectrogram = client.preprocessor().audio(sound)
    assert dict(found["classes"]) == dict(answer.top(9))
    with Image.open(io.BytesIO(clips.post("/api/seen", body(sound))[1])) as seen:
        np.testing.assert_array_equal(np.asarray(seen), spectrogram)
    explained = clips.post("/api/explain", body(sound))[1]
    with Image.open(io.BytesIO(base64.b64decode(explained["heat_map"]))) as heat:
        assert heat.size == (336, 224), "the spectrogram, enlarged"
    assert clips.post("/api/predict", body(PICTURE))[1]["error"]["kind"] == "InvalidInput"
    assert clips.raw("/api/examples/1") == wav(seed=1)
    snippets = clips.post("/api/request", {"target": "stable", "text": "red cat", "example": 1})[1]
    assert 'images/1.wav", text="red cat")' in snippets["python"] and "audio_bytes" in snippets["curl"]


def test_the_targets_follow_a_rollout(playground: Playground, server: FakeServer) -> None:
    def versions() -> list[Any]:
        return [target.get("version") for target in playground.get("/api/about")["targets"]]

    assert versions() == [1, 2, 2]
    server.labels = {"stable": 2}
    try:
        about = playground.get("/api/about")
        assert [target.get("version") for target in about["targets"]] == [2, None, 2]
        (gone,) = (target for target in about["targets"] if "error" in target)
        assert gone["name"] == "canary" and gone["error"]["kind"] == "ModelNotFound"
        assert playground.post("/api/predict", body())[1]["version"] == 2
    finally:
        server.labels = {"stable": 1, "canary": 2}
    assert versions() == [1, 2, 2]


def test_the_examples_are_the_held_out_rows(playground: Playground, data: Path) -> None:
    found = playground.get("/api/examples")
    assert len(found) == 8 and found[5] == {"text": "green tree 5", "label": "plant"}
    assert playground.raw("/api/examples/5") == (data / "images/5.png").read_bytes()
    for outside in ("8", "../manifest.csv", "-1", "999999999999"):
        with pytest.raises(urllib.error.HTTPError, match="404"):
            playground.raw(f"/api/examples/{outside}")


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (b"{", "Expected JSON"),
        ([1], "Expected a JSON object. Received: list"),
        (body(target="nope"), "Expected target to be one of stable, canary, latest. Received: 'nope'"),
        (body(target=["stable"]), "Expected target to be one of"),
        (body(text=7), "Expected text to be a string. Received: int"),
        ({**body(), "data": "%%%"}, "Expected data to be base64 or null"),
        ({**body(), "data": 5}, "Expected data to be base64 or null. Received: int"),
    ],
)
def test_an_invalid_request_is_refused(playground: Playground, wrong: Any, said: str) -> None:
    status, found = playground.post("/api/predict", wrong)
    assert status == 400 and said in found["error"]["message"]


def test_other_web_pages_are_kept_out(playground: Playground) -> None:
    """A form or a script elsewhere can send only simple types unasked, and a name that points here is not ours."""
    status, found = playground.post("/api/predict", body(), kind="text/plain")
    assert status == 400 and "application/json" in found["error"]["message"]
    renamed = urllib.request.Request(playground.url + "/api/about", headers={"Host": "evil.example"})
    with pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(renamed, timeout=20)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--server=127.0.0.1:1", "--examples=nowhere"), "Expected a folder with manifest.csv"),
        (("--server=not an address",), "Expected"),
        (("--server=127.0.0.1:1", "--timeout=0"), "Expected timeout"),
        (("--server=127.0.0.1:1", "--port=99999"), "expected a port from 0 to 65535, received '99999'"),
    ],
)
def test_wrong_options_end_with_a_reason(flags: tuple[str, ...], said: str) -> None:
    command = [sys.executable, "-m", "playground", "--no-browser", "--port=0", *flags]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 2 and said in ended.stderr and "Traceback" not in ended.stderr
