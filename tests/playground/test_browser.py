"""The page in a real browser: an image and words in, the classes of each version out, by mouse and keyboard."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, expect

from duoserve import Client, DuoserveError, PreprocessingSpec
from duoserve.preprocessing.recordings import decode_audio, inspect_audio
from tests.audio.conftest import wav
from tests.client.conftest import encoded, photo
from tests.client.fake import FakeServer, Version
from tests.playground.browser import DESKTOP, PHONE, UPDATE, Eyes, needs_browser
from tests.playground.conftest import Playground

pytestmark = needs_browser


@pytest.fixture(scope="module")
def site(request: pytest.FixtureRequest) -> Iterator[Playground]:
    """Before the scripted versions; before the demo's when screenshots are to be made."""
    if not UPDATE:
        yield request.getfixturevalue("playground")
        return
    with Playground() as running:
        yield running


@pytest.fixture
def visit(site: Playground, chromium: Browser) -> Iterator[Callable[..., Eyes]]:
    """Opens the page; in the end it has complained of nothing and fetched nothing from elsewhere."""
    opened: list[Eyes] = []

    def open_page(playground: Playground = site, **options: Any) -> Eyes:
        opened.append(Eyes(chromium, playground, **{**DESKTOP, **options}))
        return opened[-1]

    yield open_page
    for eyes in opened:
        eyes.close()
        assert not eyes.complaints
        assert {url for url in eyes.fetched if not url.startswith((eyes.home, "blob:", "data:"))} == set()


@pytest.fixture
def eyes(visit: Callable[..., Eyes]) -> Eyes:
    return visit()


def test_an_example_is_classified_by_stable_and_canary(eyes: Eyes) -> None:
    eyes.take_example()
    for name, version in (("stable", "version 1"), ("canary", "version 2")):
        answer = eyes.answer(name)
        assert answer["version"] == version
        shares = {label: float(share.removesuffix(" %")) for label, share in answer["classes"].items()}
        assert sum(shares.values()) == pytest.approx(100, abs=0.5)
        assert answer["label"] == max(shares, key=shares.__getitem__)
        card = eyes.page.locator(f".card[data-target={name}]")
        assert card.locator(".time").inner_text().endswith(" ms")
        assert card.locator(".mark").inner_text()[0] in "✓✗"
    assert list(eyes.answer("stable")["classes"]) == list(eyes.answer("canary")["classes"]), "side by side"
    expect(eyes.page.get_by_role("status")).to_contain_text("stable" if "differ" in verdict(eyes) else "say")
    eyes.explained("stable")
    if UPDATE:
        eyes.explained("canary")
    eyes.screenshot("desktop")


def test_explanations_are_drawn_where_the_version_has_them(eyes: Eyes, site: Playground, tmp_path: Path) -> None:
    picture = tmp_path / "mine.png"
    picture.write_bytes(encoded(photo(70, 50, seed=3), "PNG"))
    eyes.page.locator("#file").set_input_files(picture)
    eyes.write("🌳 a <b>red</b> car")
    about = site.get("/api/about")
    with Client(about["server"], model=about["model"], label="stable") as client:
        wanted = client.explain(picture, "🌳 a <b>red</b> car")
    why = eyes.explained("stable")
    assert why.locator(".spoken").inner_text() == "🌳 a <b>red</b> car"
    assert why.locator("mark").all_inner_texts() == [word.text for word in wanted.words]
    assert why.locator(".shares").inner_text().split("\n")[0] == f"image {wanted.image_share * 100:.1f} %"
    heat = why.get_by_alt_text("Heat map over the image")
    assert heat.evaluate("image => [image.naturalWidth, image.naturalHeight]") == [50, 70]
    strongest = max(wanted.words, key=lambda word: abs(word.relevance))
    colours = why.locator("mark").evaluate_all("marks => marks.map(mark => getComputedStyle(mark).backgroundColor)")
    full = "rgb(236, 137, 65)" if strongest.relevance > 0 else "rgb(89, 140, 224)"
    assert colours[wanted.words.index(strongest)] == full
    if not UPDATE:
        expect(eyes.page.locator(".card[data-target=canary] .why")).to_have_count(0)
    eyes.page.get_by_label("Why?").uncheck()
    eyes.answered()
    expect(eyes.page.locator(".card")).to_have_count(2)
    expect(eyes.page.locator(".why")).to_have_count(0)


def verdict(eyes: Eyes) -> str:
    return eyes.page.locator("#verdict").inner_text()


def test_the_page_shows_what_the_client_answers(eyes: Eyes, site: Playground, tmp_path: Path) -> None:
    picture = tmp_path / "mine.jpg"
    picture.write_bytes(encoded(photo(120, 90, seed=5)))
    eyes.page.locator("#file").set_input_files(picture)
    eyes.write("a red car")
    about = site.get("/api/about")
    for label in ("stable", "canary"):
        with Client(about["server"], model=about["model"], label=label) as client:
            answer = client.predict(picture, "a red car")
        seen = eyes.answer(label)
        assert (seen["label"], seen["version"]) == (answer.label, f"version {answer.version}")
        shown = {scored.label: f"{scored.probability * 100:.1f} %" for scored in answer.top(len(answer.labels))}
        assert seen["classes"] == shown
        assert eyes.page.locator(f".card[data-target={label}] .mark").count() == 0, "nobody knows the true class"


def test_errors_are_the_clients(eyes: Eyes, site: Playground, tmp_path: Path) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(encoded(photo(), "PNG")[:200])
    eyes.write("a red car")
    eyes.page.locator("#file").set_input_files(broken)
    about = site.get("/api/about")
    with Client(about["server"], model=about["model"], label="stable") as client:
        with pytest.raises(DuoserveError) as raised:
            client.predict(broken, "a red car")
        assert eyes.answer("stable") == {"error": str(raised.value)}
        eyes.page.get_by_role("button", name="Remove it").click()
        with pytest.raises(DuoserveError) as raised:
            client.predict(None, "a red car")
        assert eyes.answer("stable") == {"error": str(raised.value)}


def test_a_drawing_is_classified_stroke_by_stroke(eyes: Eyes, site: Playground) -> None:
    eyes.write("a red car")
    eyes.page.get_by_role("tab", name="Draw").click()
    eyes.page.get_by_role("radio", name="red").click()

    def drawn() -> bytes:
        """The picture, after the answer on the page was seen to be the client's."""
        seen = eyes.answer("canary")
        picture = eyes.saved()
        about = site.get("/api/about")
        with Client(about["server"], model=about["model"], label="canary") as client:
            answer = client.predict(picture, "a red car")
        assert seen["label"] == answer.label and seen["classes"][answer.label] == f"{answer.probability * 100:.1f} %"
        return picture

    def stroke(*points: tuple[float, float]) -> bytes:
        canvas = eyes.page.locator("#canvas")
        canvas.scroll_into_view_if_needed()  # saving has scrolled to the link
        box = canvas.bounding_box()
        assert box
        eyes.page.mouse.move(box["x"] + points[0][0], box["y"] + points[0][1])
        eyes.page.mouse.down()
        for x, y in points:
            eyes.page.mouse.move(box["x"] + x, box["y"] + y, steps=2)
        eyes.page.mouse.up()
        return drawn()

    body = stroke((60, 180), (60, 130), (120, 120), (150, 80), (220, 80), (250, 125), (280, 130), (280, 180), (60, 180))
    eyes.page.get_by_role("radio", name="black").click()
    circle = [(14 * math.cos(angle / 3), 14 * math.sin(angle / 3)) for angle in range(20)]
    wheels = [stroke(*((x + dx, 195 + dy) for dx, dy in circle)) for x in (110, 230)]
    assert len({body, *wheels}) == 3
    eyes.screenshot("drawing")
    eyes.page.get_by_role("button", name="Undo").click()
    assert drawn() == wheels[0]
    eyes.page.get_by_role("button", name="Clear").click()
    eyes.answered()
    expect(eyes.page.locator("#picture-name")).to_have_text("no image")


def test_by_keyboard_alone(eyes: Eyes) -> None:
    press = eyes.page.keyboard.press

    def focused(selector: str) -> bool:
        return bool(eyes.page.evaluate("wanted => document.activeElement.matches(wanted)", selector))

    def tab_to(selector: str) -> None:
        for _ in range(30):
            press("Tab")
            if focused(selector):
                return
        raise AssertionError(f"Tab never came to {selector}")

    tab_to("#example-grid button")
    press("ArrowRight")
    press("Enter")
    eyes.answered()
    words = eyes.page.locator("#words").input_value()
    assert words and eyes.answer("stable")["classes"]
    tab_to("#words")
    eyes.page.keyboard.type(" indeed")
    eyes.answered()
    press("Shift+Tab")
    for _ in range(30):
        if focused("#tab-examples"):
            break
        press("Shift+Tab")
    press("End")
    assert focused("#tab-draw")
    tab_to("#canvas")
    before = eyes.answer("stable")["classes"]
    for key in ("Space", *["ArrowRight"] * 5, *["ArrowDown"] * 5, "Space"):
        press(key)
    expect(eyes.page.locator("#picture-name")).to_have_text("drawing.png")
    assert eyes.answer("stable")["classes"] != before
    tab_to("#targets input")
    press("Space")
    expect(eyes.page.locator(".card")).to_have_count(1)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(visit: Callable[..., Eyes], scheme: str) -> None:
    eyes = visit(color_scheme=scheme)
    for tab in ("Draw", "Drop a file", "Take one"):
        eyes.page.get_by_role("tab", name=tab).click()
        if tab == "Take one":
            eyes.take_example(3)
            eyes.explained("stable")
        found = Axe().run(eyes.page)
        assert found.violations_count == 0, found.generate_report()


def test_a_phone_has_no_sideways_scrolling(visit: Callable[..., Eyes]) -> None:
    eyes = visit(**PHONE)
    eyes.take_example()
    for tab in ("Draw", "Drop a file", "Take one"):
        eyes.page.get_by_role("tab", name=tab).click()
        assert eyes.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    small = eyes.page.evaluate(
        "[...document.querySelectorAll('button:not(.colours *), select, textarea')]"
        ".filter(e => e.offsetParent && e.offsetHeight < 24).map(e => e.id)"
    )
    assert small == [], "large enough for a finger"
    eyes.explained("stable")
    assert eyes.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    eyes.screenshot("phone")


def test_a_copied_snippet_runs_and_gives_the_same_answer(eyes: Eyes, tmp_path: Path) -> None:
    picture = tmp_path / "my photo.png"
    picture.write_bytes(encoded(photo(80, 80, seed=2), "PNG"))
    eyes.page.locator("#file").set_input_files(picture)
    eyes.write('it\'s "a" red car')
    eyes.page.get_by_label("Who is asked by the request").select_option("canary")
    expect(eyes.page.locator("#code")).to_contain_text("canary")
    expect(eyes.page.locator("#code")).to_contain_text("red car")
    copied = {}
    for language in ("curl", "grpcurl", "Python"):
        eyes.page.get_by_role("tab", name=language, exact=True).click()
        eyes.page.get_by_role("button", name="Copy").click()
        expect(eyes.page.get_by_role("button", name="Copied")).to_be_visible()
        copied[language] = eyes.page.evaluate("navigator.clipboard.readText()")
        expect(eyes.page.get_by_role("button", name="Copy", exact=True)).to_be_visible()
    assert copied["curl"].startswith("curl -s http://") and "grpcurl -plaintext" in copied["grpcurl"]
    command = [sys.executable, "-c", copied["Python"]]
    said = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    assert said.startswith(f"{eyes.answer('canary')['label']} ") and said.split()[-1] == "2"
    assert eyes.saved() == picture.read_bytes()


def test_clips_are_chosen_taken_and_recorded(
    visit: Callable[..., Eyes], clips: Playground, clip_server: FakeServer, tmp_path: Path
) -> None:
    eyes = visit(clips)
    page = eyes.page
    expect(page.get_by_role("heading", name="A clip and words")).to_be_visible()
    expect(page.get_by_role("tab", name="Draw")).to_be_hidden()

    def heard(clip: bytes) -> None:
        with Client(clip_server.address, model="pairs", label="stable") as client:
            answer = client.predict(audio=clip, text="green tree")
        seen = eyes.answer("stable")
        assert seen["label"] == answer.label and seen["classes"][answer.label] == f"{answer.probability * 100:.1f} %"
        expect(page.get_by_alt_text("Spectrogram of")).to_be_visible()
        expect(eyes.explained("stable").get_by_alt_text("Heat map over the spectrogram")).to_be_visible()

    eyes.take_example(1)
    eyes.write("green tree")
    heard(wav(seed=1))
    (tmp_path / "mine.wav").write_bytes(wav(seed=5, rate=44_100))
    page.locator("#file").set_input_files(tmp_path / "mine.wav")
    heard(wav(seed=5, rate=44_100))
    page.get_by_role("tab", name="Record").click()
    page.get_by_role("button", name="Record").click()  # Chromium's own microphone: it beeps
    expect(page.locator("#recording")).to_have_text("Recording …")
    page.wait_for_timeout(1200)
    page.get_by_role("button", name="Stop").click()
    expect(page.locator("#picture-name")).to_have_text("recording.wav")
    recorded = eyes.saved()
    heard(recorded)
    facts = inspect_audio(recorded)
    assert 0.5 < facts.frames / facts.sample_rate < 10
    assert decode_audio(facts, facts.frames).any(), "not silence"
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()


@pytest.mark.skipif(UPDATE, reason="moves labels of the scripted server")
def test_a_rollout_and_an_outage_are_seen(eyes: Eyes, server: FakeServer, specs: dict[int, PreprocessingSpec]) -> None:
    eyes.take_example()
    chip = eyes.page.locator("#targets label", has_text="stable")
    expect(chip).to_contain_text("version 1")
    server.labels = {"stable": 2}
    try:
        expect(chip).to_contain_text("version 2")
        expect(eyes.page.locator("#targets label", has_text="canary")).to_contain_text("ModelNotFound")
        assert eyes.answer("stable")["version"] == "version 2"
        assert "label" in eyes.answer("canary")["error"]
    finally:
        server.labels = {"stable": 1, "canary": 2}
    expect(chip).to_contain_text("version 1")


@pytest.mark.skipif(UPDATE, reason="stops the scripted server")
def test_a_lost_server_and_its_return_are_shown(
    visit: Callable[..., Eyes], specs: dict[int, PreprocessingSpec], data: Path
) -> None:
    versions = [Version(spec) for spec in specs.values()]
    server = FakeServer(*versions, labels={"stable": 1})
    flags = f"--server={server.address}", "--model=pairs", "--timeout=1", "--label=stable", f"--examples={data}"
    with Playground(*flags) as playground:
        eyes = visit(playground)
        server.stop()
        alert = eyes.page.get_by_role("alert")
        expect(alert).to_contain_text("ServerUnavailable")
        eyes.complaints.clear()
        with FakeServer(*versions, labels={"stable": 1}, port=server.port):
            expect(alert).to_be_hidden()
            eyes.take_example()
            assert eyes.answer("stable")["version"] == "version 1"
        playground.process.terminate()
        expect(alert).to_contain_text("does not answer")
        eyes.complaints.clear()  # Chromium itself complains of the connection
