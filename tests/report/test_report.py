"""The report holds every table with the figures of the JSON, and names whatever is missing, broken or failed."""

from __future__ import annotations

import dataclasses
import html.parser
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.report import machine
from benchmarks.report.__main__ import STORED, main
from benchmarks.report.figures import updated
from benchmarks.report.page import page, sections
from benchmarks.report.parts import PARTS, Part
from benchmarks.report.running import measure, read_runs
from benchmarks.report.tables import Cell, Table
from export.selection.compare import Comparison, Measured
from export.selection.statistics import Bin, Interval
from tests.report.fake_benchmark import PNG

STORED_FOLDER = machine.ROOT / STORED
CURVES = {"rounds", "bins", "loads_mb", "calls_mb", "host", "rows"}
"""Keys whose figures are in the plots and captions, not in the tables."""


def measured(name: str, accuracy: float) -> Measured:
    about = Interval(accuracy, accuracy - 0.04, accuracy + 0.04)
    latency = {1: {"p50": 4.25 + accuracy, "p95": 9.5}, 32: {"p50": 30.5, "p95": 44.75}}
    return Measured(
        name=name,
        accuracy=about,
        gain=None if name == "text" else Interval(0.051, 0.012, 0.09),
        without={"image": Interval(0.61, 0.55, 0.66)} if name == "attention" else {},
        loss=0.875,
        calibration_error=0.041,
        bins=[Bin(0.5, 0.5, 10)],
        parameters=123_456,
        size=2_500_000,
        memory=310_000_000,
        load_seconds=1.5,
        latency=latency,
        throughput=812.5,
        train_seconds=96.0,
        same_data=True,
    )


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """The stored results, and a comparison."""
    folder = Path(shutil.copytree(STORED_FOLDER, tmp_path / "results"))
    models = measured("attention", 0.75), measured("text", 0.6999)
    comparison = Comparison(models, "text", "attention", ("concat",), 383, "digest")
    (folder / "compare.json").write_text(json.dumps(comparison.to_json()), encoding="utf-8")
    (folder / "compare.png").write_bytes(PNG)
    return folder


class Tables(html.parser.HTMLParser):
    """The cells of a page: of each section its captions, and its figures with what is shown of them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.figures: dict[str, list[tuple[list[float], str]]] = {}
        self.captions: dict[str, list[str]] = {}
        self.fetched: list[str] = []
        self._section = ""
        self._into: Callable[[str], Any] | None = None
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self._into = None
        self.fetched += [str(given[name]) for name in ("src", "href") if name in given]
        if tag == "section":
            self._section = str(given["id"])
            self.figures[self._section], self.captions[self._section] = [], []
        if values := given.get("data-values"):
            numbers = [float(value) for value in values.split()]
            self._into = lambda shown: self.figures[self._section].append((numbers, shown))
        if tag == "caption":
            self._into = self.captions[self._section].append

    def handle_data(self, data: str) -> None:
        if self._into:
            self._into(data)
            self._into = None


def leaves(found: Any, skip: set[str] = frozenset()) -> Iterator[float]:  # type: ignore[assignment]
    if isinstance(found, dict):
        for key, value in found.items():
            if key not in skip or (key == "rows" and isinstance(value, list)):
                yield from leaves(value, skip)
    elif isinstance(found, list):
        for value in found:
            yield from leaves(value, skip)
    elif isinstance(found, (int, float)) and not isinstance(found, bool):
        yield float(found)


def test_every_figure_of_the_json_is_in_a_table_and_no_other(results: Path) -> None:
    found = sections(PARTS, results)
    assert {section.name for section in found} >= {part.name for part in PARTS}
    assert [section.trouble for section in found] == [None] * len(found)
    seen = Tables(page(found, machine.facts()))
    for part, section in zip(PARTS, found, strict=False):
        record = json.loads((results / part.result).read_text(encoding="utf-8"))
        shown = {value for values, _ in seen.figures[part.name] for value in values}
        assert shown <= set(leaves(record)), part.name
        lacking = set(leaves(record, CURVES)) - shown - {0.0, float(record.get("request_bytes", 0))}
        # An act's place in the plot.
        lacking -= {act["at_s"] for act in record.get("acts", ())}
        assert not lacking, part.name
        assert len(seen.captions[part.name]) == len(section.tables) > 0
        assert section.plot == (results / part.plot).read_bytes() if part.plot else section.plot is None


def test_what_is_shown_is_the_figure_rounded(results: Path) -> None:
    seen = Tables(page(sections(PARTS, results), machine.facts()))
    client = json.loads((results / "client_speed.json").read_text())["calls"]["rows"][0]["ratio"]
    text = f"{client['median']:.2f} ({client['least']:.2f} to {client['most']:.2f})"
    assert text in {shown.rstrip(" ✓✗") for _, shown in seen.figures["client"]}
    for expected in (
        ([0.75, 0.71, 0.79], "75.0 % (71.0 to 79.0)"),
        ([0.051, 0.012, 0.09], "+5.1 (+1.2 to +9.0)"),
        ([2_500_000.0], "2.5 MB"),
        ([123_456.0], "123,456"),
        ([5.0, 9.5], "5.0 and 9.5 ms"),
    ):
        assert expected in seen.figures["compare"]
    assert ([0.0], "0 ✓") in seen.figures["rollout"]
    assert "The budget had no time for concat" in seen.captions["compare"][0]


def test_a_page_fetches_nothing(results: Path) -> None:
    seen = Tables(page(sections(PARTS, results), machine.facts()))
    assert seen.fetched and all(link.startswith(("#", "data:image/png;base64,")) for link in seen.fetched)


def test_the_facts_say_where_and_with_what() -> None:
    facts = machine.facts()
    assert list(facts) == ["date", "commit", "machine", "system", "packages"]
    assert "tensorflow 2." in facts["packages"] and "cores" in facts["machine"]


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda path: path.unlink(), "Missing: nobody has measured this yet, there is no server_memory.json"),
        (lambda path: path.write_text(path.read_text()[:-20]), "Broken: server_memory.json is no JSON"),
        (lambda path: path.write_text('{"loads_mb": [1]}'), "server_memory.json lacks what the report needs: KeyError"),
        (lambda path: path.write_text("[]"), "server_memory.json lacks what the report needs: TypeError"),
        (lambda path: path.write_bytes(b"\xff\xfe\x00"), "Broken: server_memory.json is no JSON"),
        (lambda path: path.with_suffix(".png").unlink(), "Expected the plot server_memory.png. Received: No such file"),
    ],
)
def test_what_is_not_whole_is_named_and_the_rest_stays(results: Path, damage: Callable[[Path], Any], said: str) -> None:
    damage(results / "server_memory.json")
    found = {section.name: section for section in sections(PARTS, results)}
    assert said in (found["memory"].trouble or "")
    assert [name for name, section in found.items() if section.trouble] == ["memory"]
    text = page(list(found.values()), machine.facts())
    assert "Not whole: memory." in text and said in html.unescape(text)
    assert Tables(text).figures["rollout"]


def test_a_result_that_no_part_knows_is_shown_all_the_same(results: Path) -> None:
    (results / "tomorrow.json").write_text(json.dumps({"speed": {"<fast>": [1.5, 2]}, "curve": list(range(30))}))
    found = sections(PARTS, results)
    assert found[-1].name == "tomorrow"
    text = page(found, machine.facts())
    assert Tables(text).figures["tomorrow"] == [([1.5], "1.5"), ([2.0], "2")]
    assert "speed.&lt;fast&gt;[0]" in text and "30 values" in text


def test_the_command_says_what_lacks(
    results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("benchmarks.report.__main__.STORED", results)
    output = tmp_path / "new" / "report.html"
    assert main(["--stored", "--output", str(output)]) == 0
    assert output.read_text().startswith("<!doctype html>")
    (results / "rollout.json").write_text("{")
    assert main(["--stored", "--output", str(output)]) == 1
    assert "rollout: Broken: rollout.json is no JSON" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="2"):
        main(["--only", "nothing"])


@pytest.fixture
def fake(tmp_path: Path) -> Part:
    def tables(found: Any) -> list[Table]:
        return [Table("Runs", ("count",), ((Cell(str(found["count"]), (found["count"],)),),))]

    return Part(
        "fake",
        "Fake",
        "Does it run?",
        "fake.json",
        "tests.report.fake_benchmark",
        (str(tmp_path), "{out}"),
        ("--quickly",),
        tables,
        "fake.png",
    )


def run(part: Part, folder: Path, *, quick: bool = False, again: bool = False) -> dict[str, Any]:
    measure([part], folder, quick=quick, again=again, say=lambda line: None)
    result: dict[str, Any] = json.loads((folder / part.result).read_text())
    return result


def test_what_was_measured_at_this_commit_is_not_measured_again(
    fake: Part, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "results"
    assert run(fake, folder) == {"count": 1, "quick": False}
    assert run(fake, folder)["count"] == 1
    assert run(fake, folder, again=True)["count"] == 2
    assert run(fake, folder, quick=True) == {"count": 3, "quick": True}
    (rough,) = sections([fake], folder)
    assert rough.trouble and "quick run" in rough.trouble
    assert run(fake, folder) == {"count": 4, "quick": False}
    monkeypatch.setattr(machine, "commit", lambda: "another")
    assert run(fake, folder)["count"] == 5
    (section,) = sections([fake], folder)
    assert section.trouble is None and section.plot == PNG and section.run["commit"] == "another"
    assert "at commit another" in page([section], machine.facts())


def test_a_run_that_fails_is_named_and_harms_no_result(fake: Part, tmp_path: Path) -> None:
    folder = tmp_path / "results"
    (tmp_path / "fail").touch()
    other = dataclasses.replace(fake, name="other", result="other.json", plot=None)
    measure([fake, other], folder, quick=False, again=False, say=lambda line: None)
    (section, _) = sections([fake, other], folder)
    assert not section.tables and "Expected a calm machine. Received: noise" in (section.trouble or "")
    assert set(read_runs(folder)) == {"fake", "other"}, "the next one was tried all the same"

    (tmp_path / "fail").unlink()
    assert run(fake, folder)["count"] == 3
    (tmp_path / "fail").touch()
    assert run(fake, folder, again=True)["count"] == 3, "the older result stays"
    (section,) = sections([fake], folder)
    assert section.tables and "what is shown is older" in (section.trouble or "")


def test_a_command_that_writes_nothing_is_a_failure(fake: Part, tmp_path: Path) -> None:
    part = dataclasses.replace(fake, result="else.json")
    measure([part], tmp_path / "results", quick=False, again=False, say=lambda line: None)
    section = sections([part], tmp_path / "results")[0]
    assert "Expected the command to write else.json" in (section.trouble or "")


def test_an_interrupted_run_goes_on_where_it_was(fake: Part, tmp_path: Path) -> None:
    folder = tmp_path / "results"
    second = dataclasses.replace(fake, name="second", result="second.json", plot=None)

    def stop(line: str) -> None:
        if line.startswith("second (2 of 2): python"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        measure([fake, second], folder, quick=False, again=False, say=stop)
    lines: list[str] = []
    measure([fake, second], folder, quick=False, again=False, say=lines.append)
    assert lines[0].startswith("fake (1 of 2): measured already") and lines[1].startswith("second (2 of 2): python")
    assert not list(folder.glob(".report-*"))


def test_a_block_of_markdown_is_written_anew(results: Path) -> None:
    found = sections(PARTS, results)
    made = updated(
        "x\n<!-- report compare -->\nold\n<!-- /report -->\ny\n<!-- report memory -->\n<!-- /report -->", found
    )
    assert "| attention * | 75.0 % (71.0 to 79.0) | +5.1 (+1.2 to +9.0) |" in made and "old" not in made
    assert updated(made, found) == made
    one = updated("<!-- report client 3 -->\n<!-- /report -->", found)
    assert "Importing it" in one and "Calls a second" not in one
    for wrong in ("nothing", "client 9"):
        with pytest.raises(ValueError, match="Received"):
            updated(f"<!-- report {wrong} -->\n<!-- /report -->", found)


@pytest.mark.parametrize("name", ["benchmarks/FIGURES.md", "export/FUSION.md", "export/LARGE.md", "README.md"])
def test_the_figures_in_the_documents_are_those_of_the_stored_results(name: str) -> None:
    """If not: python -m benchmarks.report --stored --figures README.md benchmarks/FIGURES.md export/*.md"""
    text = (machine.ROOT / name).read_text(encoding="utf-8")
    found = sections(PARTS, STORED_FOLDER)
    assert updated(text, found) == text
    if name == "benchmarks/FIGURES.md":
        assert [section.name for section in found if section.tables and f"<!-- report {section.name}" not in text] == []
