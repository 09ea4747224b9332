"""The page: one file, with its plots in it, that fetches nothing."""

from __future__ import annotations

import base64
import dataclasses
import html
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks.report.parts import Part
from benchmarks.report.running import RUNS, read_runs
from benchmarks.report.tables import Cell, Table, anything

__all__ = ["Section", "markdown", "page", "sections"]

_STYLE: Final = Path(__file__).with_name("style.css")


@dataclasses.dataclass(frozen=True, slots=True)
class Section:
    """One part as the page shows it.

    Attributes:
        name: The part's.
        title: The heading.
        question: What the part answers.
        command: How to measure it.
        tables: What it says; empty when there is nothing to say.
        plot: The PNG, None without one.
        run: When, where and how it was measured, as far as that was written down.
        trouble: Why something is not there or should not be trusted, None when all is well.
    """

    name: str
    title: str
    question: str
    command: str
    tables: Sequence[Table]
    plot: bytes | None
    run: Mapping[str, Any]
    trouble: str | None


def sections(parts: Sequence[Part], folder: Path) -> list[Section]:
    """A section for every part, whatever lies in the folder, and one for every other JSON that lies there."""
    runs = read_runs(folder)
    found = [_section(part, folder, runs.get(part.name, {})) for part in parts]
    known = {RUNS, *(part.result for part in parts)}
    for path in sorted(folder.glob("*.json")):
        if path.name not in known:
            plot = path.with_suffix(".png")
            tables, trouble = _read(path, anything)
            image = plot.read_bytes() if plot.exists() else None
            section = Section(
                path.stem, path.stem, "A result that the report has no part for.", "", tables, image, {}, trouble
            )
            found.append(section)
    return found


def _section(part: Part, folder: Path, run: Mapping[str, Any]) -> Section:
    tables, trouble = _read(folder / part.result, part.tables)
    plot = None
    if tables and part.plot is not None:
        try:
            plot = (folder / part.plot).read_bytes()
        except OSError as error:
            trouble = f"Expected the plot {part.plot}. Received: {error.strerror}"
    if run.get("failed"):
        kept = ", what is shown is older" if tables else ""
        trouble = f"The last run failed{kept}: {run['failed']}"
    elif run.get("quick") and not trouble:
        trouble = "A quick run: the figures are rough."
    return Section(part.name, part.title, part.question, part.shown(folder), tables, plot, run, trouble)


def _read(path: Path, tables: Any) -> tuple[Sequence[Table], str | None]:
    try:
        return tables(json.loads(path.read_text(encoding="utf-8"))), None
    except FileNotFoundError:
        return (), f"Missing: nobody has measured this yet, there is no {path.name}."
    except (OSError, ValueError) as error:
        return (), f"Broken: {path.name} is no JSON that can be read: {error}"
    except (KeyError, TypeError, IndexError, AttributeError) as error:
        return (), f"Broken: {path.name} lacks what the report needs: {type(error).__name__}: {error}"


def page(found: Sequence[Section], facts: Mapping[str, str]) -> str:
    """The whole HTML page."""
    lacking = [section for section in found if section.trouble]
    head = "".join(f"<dt>{_e(name)}</dt><dd>{_e(value)}</dd>" for name, value in facts.items())
    contents = "".join(f'<li><a href="#{_e(each.name)}">{_e(each.title)}</a>{_chip(each)}</li>' for each in found)
    notice = (
        f'<p class="notice">Not whole: {_e(", ".join(section.name for section in lacking))}. Each says why.</p>'
        if lacking
        else ""
    )
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<title>Duoserve, measured</title>
<style>
{_STYLE.read_text(encoding="utf-8")}</style>
</head>
<body>
<header>
<h1>Duoserve, measured</h1>
<dl class="facts">{head}</dl>
{notice}
<nav aria-label="Contents"><ol>{contents}</ol></nav>
</header>
<main>
{"".join(map(_html, found))}</main>
</body>
</html>
"""


def _chip(section: Section) -> str:
    if not section.trouble:
        return ""
    kind = "missing" if not section.tables else "rough"
    return f' <span class="chip {kind}">{"not there" if kind == "missing" else "mind"}</span>'


def _html(section: Section) -> str:
    plot = ""
    if section.plot is not None:
        data = base64.b64encode(section.plot).decode("ascii")
        plot = (
            f'<img src="data:image/png;base64,{data}" alt="Plot: {_e(section.title)}; its figures are in the tables">'
        )
    return f"""<section id="{_e(section.name)}">
<h2>{_e(section.title)}</h2>
<p>{_e(section.question)}</p>
{f'<p class="trouble">{_e(section.trouble)}</p>' if section.trouble else ""}
{plot}
{"".join(map(_table, section.tables))}
{f"<pre>{_e(section.command)}</pre>" if section.command else ""}
{_measured(section)}
</section>
"""


def _measured(section: Section) -> str:
    run = section.run
    if not section.tables or run.get("failed"):
        return ""
    if not run:
        said = "When and where this was measured is not written down."
    else:
        where = f"at commit {run['commit']}, on {run['machine']}"
        said = f"Measured {run['date']} {where}, {run['system']}, in {run['seconds']:.0f} s."
    return f'<p class="run">{_e(said)}</p>'


def _table(table: Table) -> str:
    head = "".join(f"<th scope=col>{_e(column)}</th>" for column in table.columns)
    rows = "".join(f"<tr>{''.join(map(_cell, row))}</tr>\n" for row in table.rows)
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{_e(table.caption)}"><table>'
        f"<caption>{_e(table.caption)}</caption><thead><tr>{head}</tr></thead>\n<tbody>{rows}</tbody></table></div>\n"
    )


def _cell(cell: Cell) -> str:
    kind = {None: "", True: " good", False: " bad"}[cell.good]
    if not cell.values:
        return f"<td>{_e(cell.shown)}</td>"
    values = " ".join(map(repr, cell.values))
    mark = {None: "", True: " ✓", False: " ✗"}[cell.good]
    return f'<td class="figure{kind}" data-values="{values}">{_e(cell.shown)}{mark}</td>'


def _e(value: object) -> str:
    return html.escape(str(value))


def markdown(tables: Iterable[Table]) -> str:
    """The tables for a README."""
    return "\n\n".join(_markdown(table) for table in tables)


def _markdown(table: Table) -> str:
    rows = [table.columns, ["---"] * len(table.columns), *([cell.shown for cell in row] for row in table.rows)]
    lines = ["| " + " | ".join(value.replace("|", "\\|").replace("\n", " ") for value in row) + " |" for row in rows]
    return f"{table.caption}\n\n" + "\n".join(lines)
