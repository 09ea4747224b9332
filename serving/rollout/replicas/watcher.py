"""Waits until every replica is in sync with the file, or fails to be."""

import time
from collections import Counter
from collections.abc import Sequence

from serving.rollout.edits import State
from serving.rollout.errors import RolloutError, Stopped
from serving.rollout.replicas.fleet import DISCOVERY, Fleet, ReplicaView
from serving.rollout.replicas.sync import Difference, differences, ended
from serving.rollout.reporter import Reporter
from serving.rollout.settings import Settings

_RESTARTS = 3  # more restarts of a replica in one command are not chance


class Watcher:
    """Polls the replicas, and records which of them went away."""

    def __init__(self, fleet: Fleet, settings: Settings, reporter: Reporter) -> None:
        self._fleet = fleet
        self._waits = settings.waits
        self._least = settings.min_replicas
        self._reporter = reporter
        self._missing: dict[str, tuple[float, str]] = {}  # since when, and the error
        self._losses = Counter[str]()

    @property
    def least(self) -> int:
        """The required number of replicas: from the settings, or as many as were found first."""
        return self._least or 1

    def look(self, state: State) -> tuple[ReplicaView, ...]:
        """Every replica now, with the labels that the file has: asking for others would count as errors there."""
        views = self._fleet.look(state.labels)
        if self._least is None and views and all(view.address != DISCOVERY for view in views):
            self._least = len(views)
        now = time.monotonic()
        # Of those that are gone, the number of replicas counts.
        missing = {view.address: view.error for view in views if not view.up}
        self._losses.update(missing.keys() - self._missing.keys())
        self._missing = {
            address: (self._missing.get(address, (now, ""))[0], error) for address, error in missing.items()
        }
        return views

    def short(self, views: Sequence[ReplicaView]) -> list[str]:
        """A line when there are too few replicas."""
        return [f"expected at least {self.least} replicas. Received: {len(views)}"] if len(views) < self.least else []

    def trouble(self, views: Sequence[ReplicaView]) -> list[str]:
        """Replicas that have been missing for too long, or that keep restarting, one line each."""
        now = time.monotonic()
        return [
            f"{address}: expected an answer. Received: none for {now - since:.0f} s: {error}"
            for address, (since, error) in self._missing.items()
            if now - since > self._waits.missing
        ] + [
            f"{address}: expected it to stay up. Received: it went away {count} times"
            for address, count in self._losses.items()
            if count >= _RESTARTS and address != DISCOVERY
        ]

    def until_arrived(self, step: str, state: State, version: int, before: Sequence[ReplicaView]) -> None:
        """Waits until no replica differs from the file, during a step of the rollout of a version.

        Errors that the replicas had `before` the edit are of earlier attempts, and don't count.

        Raises:
            Stopped: The version failed to load, a replica is missing or keeps restarting, or it takes too long.
        """
        begin = time.monotonic()
        stale = set(ended(before, version))
        short_since: float | None = None
        while True:
            views = self.look(state)
            now = time.monotonic()
            found = differences(state, views)
            failed = ended(views, version)
            # An error of an earlier attempt; one that stays for long is of this one.
            stale = stale.intersection(failed) if now - begin <= self._waits.missing else set()
            findings = [line for line in failed if line not in stale] + self.trouble(views)
            short_since = (short_since or now) if len(views) < self.least else None
            if short_since is not None and now - short_since > self._waits.missing:
                findings += self.short(views)
            if findings:
                raise Stopped(step, f"{step}: version {version} did not arrive on every replica:", findings)
            self._progress(step, len(views), max(len(views), self.least), found)
            if not found and len(views) >= self.least:
                return
            if now - begin > self._waits.step:
                lines = [str(one) for one in found] or self.short(views)
                raise Stopped(step, f"{step}: expected every replica to follow within {self._waits.step:g} s:", lines)
            time.sleep(self._waits.poll)

    def until_serving(self, address: str, version: int) -> None:
        """Waits until a version serves on a replica that joined or restarted, at most as long as one may be missing."""
        end = time.monotonic() + self._waits.missing
        while time.monotonic() < end and not self._fleet.closed:
            if self._fleet.view(address).available(version):
                return
            time.sleep(self._waits.poll)

    def follow(self, step: str, state: State, version: int, seconds: float) -> list[str]:
        """Watches a version for some seconds; returns the findings that ended it early, if any.

        A replica that is away, or catches up after a restart, for less than `waits.missing` is not a finding.
        """
        begin = time.monotonic()
        behind: dict[str, float] = {}
        while True:
            views = self.look(state)
            now = time.monotonic()
            lines = {*map(str, differences(state, views)), *self.short(views)}
            behind = {line: behind.get(line, now) for line in lines}
            findings = self.trouble(views) + ended(views, version)
            findings += [line for line, since in behind.items() if now - since > self._waits.missing]
            if findings:
                return findings
            passed = now - begin
            self._reporter.progress(step, min(int(passed), int(seconds)), int(seconds), "seconds passed")
            if passed >= seconds and not behind:
                return []
            time.sleep(self._waits.poll)

    def after_rollback(self, state: State) -> list[str]:
        """Waits until every replica that answers follows the file; returns the differences left. Never raises an error.

        Those that don't answer are given the time of a restart.
        """
        begin = time.monotonic()
        while True:
            try:
                views = self.look(state)
            except RolloutError as error:
                return [f"the replicas can't be determined: {error}"]
            up = [view for view in views if view.up]
            found = differences(state, up)
            self._progress("rollback", len(up), len(views), found)
            silent = [
                f"there may be more replicas: {view.error}"
                if view.address == DISCOVERY
                else f"{view.address} does not answer; it reads the file when it is back"
                for view in views
                if not view.up
            ]
            passed = time.monotonic() - begin
            if up and not found and (not silent or passed > self._waits.missing):
                return silent
            if not views or passed > self._waits.step:
                return silent + [str(one) for one in found]
            time.sleep(self._waits.poll)

    def _progress(self, step: str, asked: int, total: int, found: Sequence[Difference]) -> None:
        following = asked - len({one.address for one in found})
        self._reporter.progress(step, following, total, str(found[0]) if found else "")
