"""The report in a real browser: it fetches nothing, complains of nothing, and fits a phone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser

from benchmarks.report import machine
from benchmarks.report.__main__ import STORED
from benchmarks.report.page import page, sections
from benchmarks.report.parts import PARTS
from tests.playground.browser import DESKTOP, PHONE, needs_browser

pytestmark = needs_browser


@pytest.mark.parametrize(("device", "scheme"), [(DESKTOP, "light"), (PHONE, "dark")])
def test_the_page_stands_alone(chromium: Browser, tmp_path: Path, device: Any, scheme: str) -> None:
    path = tmp_path / "report.html"
    path.write_text(page(sections(PARTS, machine.ROOT / STORED), machine.facts()), encoding="utf-8")
    context = chromium.new_context(**device, color_scheme=scheme, offline=True)
    seen, said = context.new_page(), []
    fetched: list[str] = []
    seen.on("console", lambda message: said.append(message.text))
    seen.on("request", lambda request: fetched.append(request.url))
    seen.goto(path.as_uri())
    assert seen.evaluate("[...document.images].every(image => image.complete && image.naturalWidth > 100)")
    assert seen.evaluate("document.documentElement.scrollWidth <= innerWidth")
    found = Axe().run(seen)
    assert found.violations_count == 0, found.generate_report()
    assert not said
    assert {url for url in fetched if not url.startswith("data:")} == {path.as_uri()}
    context.close()
