"""A real Chromium, and the visible content of the page."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import pytest
from playwright.sync_api import Browser, BrowserContext, Locator, Page, expect, sync_playwright

from tests.playground.conftest import ROOT, Playground

CHROMIUM: Final = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_browser: Final = [
    pytest.mark.browser,
    pytest.mark.skipif(
        CHROMIUM is None, reason="no Chromium on the PATH, and PyPI has none: apt-get install chromium (CI does)"
    ),
]
SCREENSHOTS: Final = ROOT / "playground" / "screenshots"
UPDATE: Final = bool(os.environ.get("UPDATE_SCREENSHOTS"))
"""UPDATE_SCREENSHOTS=1 runs the tests on the demo's model, as `make playground` serves it, and keeps what they see."""

DESKTOP: Final[Mapping[str, Any]] = {"viewport": {"width": 1280, "height": 900}}
PHONE: Final[Mapping[str, Any]] = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}


expect.set_options(timeout=15_000)


@contextlib.contextmanager
def launched() -> Iterator[Browser]:
    """Chromium, headless."""
    with sync_playwright() as playwright:
        # Root, as CI is, may not use Chromium's sandbox; the only page that is opened is ours.
        flags = "--no-sandbox", "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield browser
        browser.close()


class Eyes:
    """One visitor: a page, and everything that it fetched or complained about.

    Attributes:
        page: The page.
        home: Where it comes from.
        complaints: What the console said, and errors of scripts.
        fetched: The URLs of all requests.
    """

    def __init__(self, browser: Browser, playground: Playground, **options: Any) -> None:
        self._context: BrowserContext = browser.new_context(reduced_motion="reduce", **options)
        self._context.grant_permissions(["clipboard-read", "clipboard-write", "microphone"], origin=playground.url)
        self.home = playground.url
        self.complaints: list[str] = []
        self.fetched: list[str] = []
        self.page: Page = self._context.new_page()
        self.page.set_default_timeout(15_000)
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.fetched.append(request.url))
        self.page.goto(playground.url + "/")
        expect(self.page.locator("#targets label")).not_to_have_count(0)

    def answered(self) -> None:
        """Returns when every answer to the newest input is there."""
        expect(self.page.locator("#answers")).to_have_attribute("aria-busy", "false")

    def answer(self, name: str) -> dict[str, Any]:
        """The content of a card: version, label, classes by name, and the error, if any."""
        self.answered()
        card = self.page.locator(f".card[data-target={name}]")
        if card.locator(".error").count():
            return {"error": card.locator(".error span").inner_text()}
        bars = [
            (bar.locator(".name").inner_text(), bar.locator(".share").inner_text())
            for bar in card.locator(".bars li").all()
        ]
        return {
            "version": card.locator(".version").inner_text(),
            "label": card.locator(".best strong").inner_text(),
            "classes": dict(bars),
        }

    def explained(self, name: str) -> Locator:
        """The explanation in a card, when it is there and drawn."""
        why = self.page.locator(f".card[data-target={name}] section.why")
        expect(why).to_be_visible(timeout=60_000)
        for picture in why.locator("img").all():
            expect(picture).to_have_js_property("complete", True)
        return why

    def take_example(self, place: int = 0) -> None:
        self.page.locator("#example-grid button").nth(place).click()
        self.answered()

    def write(self, words: str) -> None:
        self.page.get_by_role("textbox", name="Words").fill(words)
        self.answered()

    def saved(self) -> bytes:
        """The image, by the link that offers to save it, which is renewed with the answers."""
        self.answered()
        with self.page.expect_download() as download:
            self.page.locator("#save").click()
        return Path(download.value.path()).read_bytes()

    def screenshot(self, name: str) -> None:
        """Keeps what is seen, when asked to."""
        if UPDATE:
            SCREENSHOTS.mkdir(exist_ok=True)
            path = SCREENSHOTS / f"{name}.png"
            self.page.screenshot(path=path, full_page=True)
            _shrink(path)

    def close(self) -> None:
        self._context.close()


def _shrink(path: Path) -> None:
    """256 colours are enough for a page, and a third of the bytes."""
    from PIL import Image

    with Image.open(path) as image:
        image.convert("RGB").quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)
