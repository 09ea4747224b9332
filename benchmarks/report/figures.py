"""Tables in Markdown files that come from the results: between `<!-- report PART -->` and `<!-- /report -->`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from benchmarks.report.page import Section, markdown

__all__ = ["update", "updated"]

_BLOCK: Final = re.compile(r"(<!-- report (?P<part>\S+)(?: (?P<table>\d+))? -->\n).*?(<!-- /report -->)", re.DOTALL)


def updated(text: str, found: Sequence[Section]) -> str:
    """The text with every block written anew. `<!-- report PART 2 -->` takes the part's second table alone.

    Raises:
        ValueError: A block names a part, or a table, that is not there.
    """
    by_name = {section.name: section for section in found}

    def block(match: re.Match[str]) -> str:
        section = by_name.get(match["part"])
        if section is None or not section.tables:
            raise ValueError(f"Expected a measured part. Received: <!-- report {match['part']} -->")
        tables = section.tables
        if match["table"]:
            place = int(match["table"])
            if not 1 <= place <= len(tables):
                raise ValueError(f"Expected table 1 to {len(tables)} of {section.name}. Received: {place}")
            tables = [tables[place - 1]]
        return f"{match[1]}\n{markdown(tables)}\n\n{match[4]}"

    return _BLOCK.sub(block, text)


def update(path: Path, found: Sequence[Section]) -> bool:
    """Writes a file's blocks anew; whether anything changed."""
    before = path.read_text(encoding="utf-8")
    after = updated(before, found)
    if after == before:
        return False
    draft = path.with_name(f".{path.name}")
    draft.write_text(after, encoding="utf-8")
    draft.replace(path)
    return True
