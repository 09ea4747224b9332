"""Answers other than one class on the page."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, expect

from duoserve import Client, PreprocessingSpec
from duoserve.contract import Scores, Tags
from tests.client.fake import FakeServer, Version
from tests.playground.browser import DESKTOP, Eyes, needs_browser
from tests.playground.conftest import Playground

pytestmark = needs_browser


@pytest.fixture(scope="module")
def server(specs: dict[int, PreprocessingSpec]) -> Iterator[FakeServer]:
    """Tags behind stable, scores behind canary."""
    tags = dataclasses.replace(specs[1], answer=Tags((0.2,) * 4))
    scores = dataclasses.replace(specs[1], answer=Scores(("EUR", "", "", "")), version=2)
    with FakeServer(Version(tags), Version(scores), labels={"stable": 1, "canary": 2}) as running:
        yield running


def test_tags_are_marked_and_scores_are_listed(chromium: Browser, playground: Playground, server: FakeServer) -> None:
    eyes = Eyes(chromium, playground, **DESKTOP)
    eyes.take_example()
    words = eyes.page.get_by_role("textbox", name="Words").input_value()
    picture = playground.raw("/api/examples/0")
    with Client(server.address, model="pairs", label="stable") as client:
        tags = client.predict(picture, words)
    with Client(server.address, model="pairs", label="canary") as client:
        scores = client.predict(picture, words)
    seen = eyes.answer("stable")
    assert seen["label"] == (", ".join(tags.tags) or "no tags") and len(seen["classes"]) == 4
    stable, canary = (eyes.page.locator(f".card[data-target={name}]") for name in ("stable", "canary"))
    assert stable.locator(".bars .top").count() == len(tags.tags)
    shown = dict(zip(canary.locator("dt").all_inner_texts(), canary.locator("dd").all_inner_texts(), strict=True))
    assert {name: float(text.split()[0]) for name, text in shown.items()} == pytest.approx(
        dict(scores.scores), rel=1e-4
    )
    assert shown["animal"].endswith(" EUR")
    expect(eyes.page.locator("#verdict")).to_contain_text(f"stable says {seen['label']}, canary says animal ")
    assert eyes.complaints == []
    eyes.close()
