"""A manifest may name recordings in place of images, and a model is trained on their spectrograms."""

from __future__ import annotations

import csv
import dataclasses
from pathlib import Path

import numpy as np
import pytest

from duoserve import AudioSpec, PreprocessingSpec
from duoserve.preprocessing.preprocessor import Preprocessor
from duoserve.preprocessing.wav import inspect_wav
from export.dataset.clips import golden_recording
from export.dataset.data import Dataset, encode, load_dataset, load_held_out
from export.dataset.rows import DataError
from export.training.run import TrainedModel
from export.training.tokenizer import train_tokenizer
from export.training.train import train
from tests.audio.conftest import melody, packed, wav
from tests.training.conftest import SMALL

WORDS = {
    "red heart": "things",
    "blue car": "things",
    "black cat": "animals",
    "hot dog": "animals",
    "green tree": "plants",
}


def write(folder: Path, rows: list[list[str]], header: str = "audio,text,label,split") -> None:
    with (folder / "manifest.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header.split(","), *rows])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """WAV and FLAC of two rates and lengths: 40 rows, 10 of them held out."""
    root = tmp_path_factory.mktemp("spoken")
    rows = []
    for number, (text, label) in enumerate(list(WORDS.items()) * 8):
        seconds = 0.9 if number == 7 else 0.4
        if number % 2:
            name, data = f"{number}.flac", packed(melody(22_050, seconds, seed=number), 22_050, "FLAC")
        else:
            name, data = f"{number}.wav", wav(number, seconds=seconds)
        (root / name).write_bytes(data)
        rows.append([name, text, label, "test" if number >= 30 else "train"])
    write(root, rows)
    return root


@pytest.fixture(scope="module")
def dataset(folder: Path) -> Dataset:
    return load_dataset(folder, progress=False)


def test_a_model_is_trained_on_what_serving_will_see(dataset: Dataset, tmp_path: Path) -> None:
    assert dataset.medium == "audio"
    trained = train(dataset, preset=SMALL, epochs=1, progress=False)
    spec = trained.spec
    assert spec.audio is not None and (spec.image_height, spec.image_width) == (32, 48)  # 0.9 s are 44 frames
    arrays = encode(dataset.rows, Preprocessor(spec), progress=False)
    row = dataset.rows[31]
    np.testing.assert_array_equal(arrays.images[31], Preprocessor(spec).audio(row.image))
    assert {inspect_wav(data).sample_rate for data, _ in trained.samples} == {16_000, 22_050}
    trained.save(tmp_path / "run")
    loaded = TrainedModel.load(tmp_path / "run")
    assert loaded.spec == spec and loaded.samples == trained.samples


def test_golden_samples_are_as_short_as_what_the_model_hears(dataset: Dataset) -> None:
    spec = dataclasses.replace(_spec(dataset), image_width=8)
    long = wav(3, rate=44_100, seconds=5.0)
    short = golden_recording(long, spec)
    assert len(short) < len(long) / 10
    np.testing.assert_array_equal(Preprocessor(spec).audio(short), Preprocessor(spec).audio(long))


def _spec(dataset: Dataset) -> PreprocessingSpec:
    return PreprocessingSpec(20, 32, 4, b"unused", dataset.labels, 1, audio=AudioSpec())


def test_every_bad_recording_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.wav").write_bytes(wav())
    (tmp_path / "cut.wav").write_bytes(wav()[:-5])
    (tmp_path / "image.wav").write_bytes(b"\x89PNG\r\n\x1a\n")
    write(tmp_path, [[name, "x", "y", "train"] for name in ("a.wav", "cut.wav", "image.wav", "missing.wav", "")])
    with pytest.raises(DataError) as caught:
        load_dataset(tmp_path, progress=False)
    assert [str(problem) for problem in caught.value.problems] == [
        "line 3: audio 'cut.wav': Expected audio to be a whole WAV of 19200 bytes of samples. Received: 19195 of them",
        "line 4: audio 'image.wav': Expected audio to be a WAV, FLAC or OGG. Received: a PNG image",
        "line 5: audio 'missing.wav' does not exist",
        "line 6: audio is empty",
    ]


@pytest.mark.parametrize("header", ["audio,image,text,label", "text,label,split", "sound,text,label"])
def test_a_manifest_has_images_or_recordings(tmp_path: Path, header: str) -> None:
    write(tmp_path, [], header)
    with pytest.raises(DataError, match=r"Expected the columns image,text,label .* \(audio in place of image\)"):
        load_dataset(tmp_path, progress=False)


def test_held_out_images_are_not_taken_from_recordings(folder: Path) -> None:
    with pytest.raises(DataError, match=r"Expected a column image .* Received: audio"):
        load_held_out(folder, progress=False)


def test_a_recording_that_changed_is_refused(dataset: Dataset, tmp_path: Path) -> None:
    path = tmp_path / "gone.wav"
    row = dataclasses.replace(dataset.rows[0], image=path)
    tokenizer = train_tokenizer([f"{one} {two}" for one in "abcdefgh" for two in "stuvwxyz"], vocabulary=300)
    spec = dataclasses.replace(_spec(dataset), tokenizer=tokenizer)
    with pytest.raises(DataError, match="No such file"):
        encode([row], Preprocessor(spec), progress=False)
