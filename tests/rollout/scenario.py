"""A good version, and every kind of bad one, on five replicas under constant load."""

from __future__ import annotations

import dataclasses
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from serving.rollout import Refused, Stopped
from tests.rollout import models
from tests.rollout.site import WAITS, Site

FAULTS = [None, None, None, f"refuse:{models.REFUSED}", f"crash:{models.CRASHING}"]
HALF = 8


@dataclasses.dataclass(frozen=True)
class Act:
    """What happened to one version.

    Attributes:
        name: The act.
        begin: time.monotonic() at its start.
        seconds: How long it took, the replicas' proof included.
        ended: "out", "back", or where it was stopped or refused.
        findings: Why it was stopped.
        undone: Seconds from the decision to the confirmation by every replica, if it was rolled back.
    """

    name: str
    begin: float
    seconds: float
    ended: str
    findings: tuple[str, ...] = ()
    undone: float | None = None


def copy_half(store: Path) -> None:
    """A version whose copy was interrupted."""
    folder = store / models.MODEL / str(HALF)
    shutil.copytree(store / models.MODEL / str(models.GOOD), folder)
    shutil.rmtree(folder / "variables")


def play(site: Site) -> Iterator[Act]:
    """Runs the acts, one after the other; each starts and ends with version 1 stable."""
    yield _act("good version", site, lambda: _run(site, models.GOOD))
    yield _act("rolled back", site, lambda: _back(site))
    yield _act("worse answers", site, lambda: _run(site, models.WORSE))
    yield _act("slow", site, lambda: _run(site, models.SLOW))
    yield _act("fails to load on one replica", site, lambda: _run(site, models.REFUSED))
    yield _act("crashes a server", site, lambda: _run(site, models.CRASHING))
    yield _act("half copied", site, lambda: _run(site, HALF))


def _act(name: str, site: Site, play: Callable[[], tuple[str, tuple[str, ...]]]) -> Act:
    begin = time.monotonic()
    ended, findings = play()
    seconds = time.monotonic() - begin
    site.wait_until_in_sync()
    with site.rollout() as rollout:
        last = [record for record in rollout.history() if record["event"] in ("started", "rolled back")][-1]
    undone = last.get("seconds") if ended != "out" else None
    return Act(name, begin, seconds, ended, findings, undone)


def _run(site: Site, version: int) -> tuple[str, tuple[str, ...]]:
    with site.rollout(waits=WAITS) as rollout:
        try:
            rollout.run(version)
        except Stopped as stopped:
            return f"{stopped.step}, {'undone' if stopped.undone else 'NOT undone'}", stopped.findings
        except Refused as refused:
            return f"refused: {refused.reason}", refused.findings
    return "out", ()


def _back(site: Site) -> tuple[str, tuple[str, ...]]:
    with site.rollout(waits=WAITS) as rollout:
        return "back", rollout.rollback().warnings
