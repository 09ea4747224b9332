"""Runs the benchmarks one after the other; what has been measured at this commit is not measured again."""

from __future__ import annotations

import collections
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks.report import machine
from benchmarks.report.parts import Part

__all__ = ["RUNS", "measure", "read_runs"]

WORK: Final = Path("build/report/work")
"""What a benchmark keeps for a second try, by commit."""

RUNS: Final = "runs.json"
"""In the folder of results: for each part when, where and how it was measured, or how it failed."""


def read_runs(folder: Path) -> dict[str, dict[str, Any]]:
    """The runs that the folder knows of, by the name of their part."""
    try:
        found = json.loads((folder / RUNS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def measure(
    parts: Sequence[Part],
    folder: Path,
    *,
    quick: bool,
    again: bool,
    say: Callable[[str], None],
) -> None:
    """Runs what is not measured yet. A part that fails is written down and does not end the others.

    Args:
        parts: What to run, in this order.
        folder: Where the results go. A result is replaced only by a whole one.
        quick: Fewer rounds and trainings.
        again: Also what has been measured at this commit.
        say: Called with lines for people.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for number, part in enumerate(parts, 1):
        head = f"{part.name} ({number} of {len(parts)})"
        commit, before = machine.commit(), read_runs(folder).get(part.name, {})
        known = {"commit": commit, "quick": quick, "failed": None}
        if not again and (folder / part.result).exists() and before.items() >= known.items():
            say(f"{head}: measured already, {before['date']}")
            continue
        say(f"{head}: {part.shown(folder, quick=quick)}")
        began = time.monotonic()
        failed = _run(part, folder, quick)
        record = {**machine.facts(), **known, "failed": failed, "seconds": round(time.monotonic() - began, 1)}
        _write_run(folder, part.name, record)
        say(f"{head}: {'failed: ' + failed.splitlines()[-1] if failed else 'done'}, {record['seconds']:.0f} s")


def _run(part: Part, folder: Path, quick: bool) -> str | None:
    """Why it failed, None when it did not."""
    for path, arguments in part.needs:
        if not (machine.ROOT / path).exists() and (failed := _call([sys.executable, *arguments], subprocess.DEVNULL)):
            return failed
    with tempfile.TemporaryDirectory(prefix=".report-", dir=folder) as scratch:
        out = Path(scratch)
        if part.writes:  # trained models stay, for a second try
            name = machine.commit().replace(" ", "-")
            out = machine.ROOT / WORK / (f"{name}-quick" if quick else name)
            out.mkdir(parents=True, exist_ok=True)
        with (Path(scratch) / "stdout").open("wb") as stdout:
            if failed := _call(part.command(out.resolve(), quick=quick), stdout):
                return failed
        made = out / part.writes
        if part.stdout:
            (Path(scratch) / "stdout").rename(made / part.result)
        for name in filter(None, (part.plot, part.result)):  # the result last: it says that all is there
            if not (made / name).exists():
                return f"Expected the command to write {name}. Received: nothing"
            shutil.copy(made / name, folder / f".{name}")
            (folder / f".{name}").replace(folder / name)
    return None


def _call(command: Sequence[str], stdout: Any) -> str | None:
    """Why a command failed, None when it did not. What it says on stderr is shown, and its end is kept."""
    tail: collections.deque[bytes] = collections.deque(maxlen=30)
    with subprocess.Popen(command, cwd=machine.ROOT, stdout=stdout, stderr=subprocess.PIPE) as running:
        assert running.stderr
        for line in running.stderr:
            tail.append(line)
            sys.stderr.write(line.decode(errors="replace"))
            sys.stderr.flush()
    if not running.returncode:
        return None
    said = b"".join(tail).decode(errors="replace").strip()
    return f"exit code {running.returncode}" + (f"\n{said}" if said else "")


def _write_run(folder: Path, name: str, record: dict[str, Any]) -> None:
    draft = folder / f".{RUNS}"
    draft.write_text(json.dumps({**read_runs(folder), name: record}, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    draft.replace(folder / RUNS)
