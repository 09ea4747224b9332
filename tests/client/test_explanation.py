"""`explain`, of both clients: words and patches in their places, drawn, through a rollout, or a clear refusal."""

from __future__ import annotations

import dataclasses
import html
import io
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from duoserve import (
    BadReply,
    Explanation,
    InputRelevance,
    InvalidInput,
    PreprocessingSpec,
    Preprocessor,
    UnsupportedModel,
    Word,
)
from duoserve.cli import main
from duoserve.contract import OneClass
from tests.client.conftest import encoded, photo
from tests.client.fake import FakeServer, Version

MakeClient = Callable[..., Any]
GRID = {1: (2, 3), 2: (4, 4)}


@pytest.fixture
def specs(spec1: PreprocessingSpec, spec2: PreprocessingSpec, spec3: PreprocessingSpec) -> dict[int, PreprocessingSpec]:
    """1 and 2 can explain, and prepare differently; 3 can't."""
    both = {1: spec1, 2: spec2}
    return {**{n: dataclasses.replace(spec, explain_grid=GRID[n]) for n, spec in both.items()}, 3: spec3}


@pytest.fixture
def server(specs: dict[int, PreprocessingSpec]) -> Iterator[FakeServer]:
    with FakeServer(*map(Version, specs.values()), labels={"stable": 1, "canary": 2}) as running:
        yield running


def test_it_follows_a_label_to_another_version(
    make_client: MakeClient, server: FakeServer, specs: dict[int, PreprocessingSpec], jpeg: bytes
) -> None:
    client = make_client(server.address, label="stable")
    for version in (1, 2, 1):
        server.labels["stable"] = version
        found, answer = client.explain(jpeg, "Red  heart!"), client.predict(jpeg, "Red  heart!")
        preprocessor = Preprocessor(specs[version])
        assert found.version == version and found.target == "stable"
        assert (found.label, found.probability) == (answer.label, pytest.approx(answer.probability))
        assert found.image_relevance.shape == GRID[version] and not found.image_relevance.flags.writeable
        np.testing.assert_array_equal(found.pixels, preprocessor.image(jpeg))
        assert [(word.text, word.start) for word in found.words] == [("Red", 0), ("heart!", 5)]
        tokens, (_, _, second) = preprocessor.tokens("Red  heart!"), preprocessor.words("Red  heart!")[1]
        expected = [tokens[0] / 1000, tokens[second] / 1000 if second >= 0 else 0]
        np.testing.assert_allclose([word.relevance for word in found.words], expected, rtol=1e-6)
        assert found.image_share == pytest.approx(0.75) and found.text_share == pytest.approx(0.25)


def test_another_class_can_be_asked_for_by_its_name_in_that_version(
    make_client: MakeClient, server: FakeServer, jpeg: bytes
) -> None:
    client = make_client(server.address, label="stable")
    for version in (1, 2):
        server.labels["stable"] = version
        assert client.explain(jpeg, "red heart", label="cat").label == "cat"
    assert client.explain(jpeg, "red heart", label="elk").label == "elk"
    server.labels["stable"] = 1
    with pytest.raises(UnsupportedModel, match=r"to be one of the version's 3 classes\. Received: 'elk'"):
        client.explain(jpeg, "red heart", label="elk")
    with pytest.raises(InvalidInput):
        client.explain(jpeg, "red heart", label=3)


def test_a_version_without_the_signature_is_refused(make_client: MakeClient, server: FakeServer, jpeg: bytes) -> None:
    with pytest.raises(UnsupportedModel, match=r"a version with the signature explain\. Received: one that was expor"):
        make_client(server.address, version=3).explain(jpeg, "red heart")
    assert not server.predictions("explain")


@pytest.mark.parametrize("name", ["image_relevance", "token_relevance", "input_relevance", "class_id", "probability"])
def test_a_reply_that_breaks_the_contract_is_named(
    make_client: MakeClient, server: FakeServer, jpeg: bytes, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    right = Version.explanation
    changes = [lambda array: array[..., None]]
    changes.append((lambda array: array + 99) if name == "class_id" else (lambda array: array * np.nan))
    for change in changes:

        def wrong(self: Version, *inputs: Any, change: Any = change) -> Any:
            answer = right(self, *inputs)
            return {**answer, name: change(answer[name])}

        monkeypatch.setattr(Version, "explanation", wrong)
        with pytest.raises(BadReply, match=name):
            make_client(server.address, label="stable").explain(jpeg, "red heart")


def made(**changes: Any) -> Explanation:
    relevance = np.zeros((2, 2), np.float32)
    relevance[0, 0], relevance[1, 1] = 0.4, -0.2
    whole = Explanation(
        label="cat",
        value=0.8,
        pixels=np.full((8, 8, 3), 255, np.uint8),
        image_relevance=relevance,
        text="a <b>, x\x1b[2J",
        words=(Word("<b>,", 2, -0.1), Word("x\x1b[2J", 7, 0.2)),
        input_relevance=InputRelevance(0.5, 0.25),
        kind=OneClass(),
        version=1,
        target=None,
    )
    return dataclasses.replace(whole, **changes)


def test_the_heat_map_is_orange_where_it_speaks_for_the_class_and_blue_where_against() -> None:
    picture = np.asarray(made().heat_map()).astype(int)
    assert picture.shape == (320, 320, 3)
    red, _, blue = picture[40, 40]
    assert red > blue + 80
    red, _, blue = picture[-40, -40]
    assert blue > red + 40
    assert np.ptp(picture[40, -40]) < 30  # grey: nothing to say


@pytest.mark.parametrize("kind", ["bytes", "array", "pil"])
def test_it_is_drawn_on_the_image_itself_upright(kind: str) -> None:
    image = photo(90, 120)
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(image, exif=exif)
    given = {"bytes": data, "array": np.asarray(image), "pil": Image.open(io.BytesIO(data))}[kind]
    assert made().heat_map(given).size == ((120, 90) if kind == "array" else (90, 120))
    with pytest.raises(InvalidInput):
        made().heat_map(b"junk")


def test_words_are_coloured_and_nothing_in_a_text_gets_through() -> None:
    assert made().html().count("<") == 4 and "<b>" not in made().html()
    assert re.sub(r"<[^>]*>", "", made().html()) == html.escape(made().text)
    plain = re.sub(r"\x1b\[[0-9;]*m", "", made().ansi())
    assert plain == "a <b>, x [2J"


@pytest.mark.parametrize(
    ("relevance", "shares"),
    [((0.5, 0.25), (2 / 3, 1 / 3)), ((0.5, -0.2), (1, 0)), ((-0.5, -0.2), (0, 0)), ((0, 0), (0, 0))],
)
def test_shares_add_up_to_one_or_nothing(relevance: tuple[float, float], shares: tuple[float, float]) -> None:
    found = made(input_relevance=InputRelevance(*relevance))
    assert (found.image_share, found.text_share) == pytest.approx(shares)


def test_nothing_relevant_is_grey() -> None:
    nothing = made(image_relevance=np.zeros((2, 2), np.float32), words=())
    assert np.ptp(np.asarray(nothing.heat_map()), axis=2).max() == 0
    assert nothing.html() == html.escape(nothing.text)


@given(text=st.text(st.characters(exclude_categories=["Cs"]), max_size=30))
def test_words_are_parts_of_the_text_in_order(spec1: PreprocessingSpec, text: str) -> None:
    preprocessor = Preprocessor(spec1)
    end = 0
    tokens = preprocessor.tokens(text)
    for begin, stop, token in preprocessor.words(text):
        assert end <= begin < stop <= len(text) and not text[begin].isspace()
        assert token == -1 or tokens[token] != spec1.pad_id
        end = stop


def test_scripts_without_spaces_and_emoji_are_taken_apart(spec1: PreprocessingSpec) -> None:
    preprocessor = Preprocessor(spec1)
    for text, words in (
        ("it's blue-green, isn't it", ["it's", "blue-green,", "isn't", "it"]),
        ("犬と猫 cat", ["犬", "と", "猫", "cat"]),
        ("🌳tree🎈", ["🌳tree", "🎈"]),
        ("café naïve", ["café", "naïve"]),
        ("ＲＥＤ heart", ["ＲＥＤ", "heart"]),
    ):
        assert [text[begin:end] for begin, end, _ in preprocessor.words(text)] == words


def test_the_command(server: FakeServer, jpeg: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "photo.jpg").write_bytes(jpeg)
    out = tmp_path / "heat.png"
    where = [
        *("explain", f"--server={server.address}", "--model=pairs", f"--image={tmp_path / 'photo.jpg'}"),
        *("--text=red heart", f"--out={out}"),
    ]
    assert main([*where, "--label=stable"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == "image 75%, text 25%" and lines[-1] == f"version 1, heat map in {out}"
    assert [line.split()[1] for line in lines[2:4]] == ["red", "heart"]
    with Image.open(out) as picture:
        assert picture.size == (120, 90)
    assert main([*where, "--label=stable", "--class=owl", "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["label"] == "owl" and np.shape(record["image_relevance"]) == GRID[1]
    assert [word["text"] for word in record["words"]] == ["red", "heart"]
    asked = len(server.calls)
    for wrong in (tmp_path / "no" / "where.png", tmp_path, "."):
        assert main([*where[:-1], f"--out={wrong}", "--label=stable"]) == 2
        assert "Expected --out to be a file that can be written" in capsys.readouterr().err
    assert len(server.calls) == asked, "refused before any call"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["heat.png", "photo.jpg"]
    assert main([*where, "--version=3"]) == 1
