"""Options, files and tables of the benchmarks."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

RESULTS: Final = Path(__file__).with_name("results")


def parser(doc: str | None, *, rounds: int | None = None, seconds: float | None = None) -> argparse.ArgumentParser:
    """The module's docstring as the help; the options `--rounds` and `--seconds` where they have a default."""
    made = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    if rounds is not None:
        made.add_argument("--rounds", type=int, default=rounds, help="default: %(default)s")
    if seconds is not None:
        made.add_argument("--seconds", type=float, default=seconds, help="of one measurement (default: %(default)s)")
    return made


def write(found: Any, path: Path) -> None:
    """Writes JSON to a temporary name first, so that the file is always complete."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}")
    draft.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    draft.replace(path)


def markdown(lines: Sequence[Sequence[str]]) -> str:
    """A table; the first line is its head."""
    head, *rows = [f"| {' | '.join(line)} |" for line in lines]
    return "\n".join([head, f"|{' --- |' * len(lines[0])}", *rows])
