"""The commands: each looks at the file and the replicas, does what is left to do, and can be run again.

Nothing is remembered between two runs but what the file says, so it does not matter where an
earlier run ended, or why.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from types import TracebackType
from typing import Any

from serving.rollout import refusals, steps
from serving.rollout.edits import State, read_state
from serving.rollout.errors import Refused, RolloutError, Stopped
from serving.rollout.package import Package
from serving.rollout.replicas.discovery import discovery
from serving.rollout.replicas.fleet import Fleet, ReplicaView
from serving.rollout.replicas.sync import Drift, drift
from serving.rollout.report import Reporter, Silent
from serving.rollout.session import Outcome, Session
from serving.rollout.settings import Settings
from serving.rollout.storage import open_storage
from serving.rollout.storage.entries import is_under_way, operator
from serving.rollout.trial.trial import hold_gate, prepare

__all__ = ["Outcome", "Rollout"]


class Rollout:
    """Rolls out one model. A context manager.

    Args:
        settings: What, where, and how good.
        reporter: Hears of progress.
        allow_contract: Go on although clients may not be able to follow.
        dry_run: Check and show what would be done, change nothing.

    Raises:
        SettingsError: Replicas or config are named wrongly.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        reporter: Reporter | None = None,
        allow_contract: bool = False,
        dry_run: bool = False,
    ) -> None:
        self._settings = settings
        self._reporter = reporter or Silent()
        self._allow_contract = allow_contract
        self._dry_run = dry_run
        self._storage = open_storage(settings)
        self._fleet = Fleet(
            discovery(settings.replicas, settings.context),
            settings.model,
            timeout=settings.waits.call,
            parallel=settings.parallel,
            tls=settings.tls,
        )

    def __enter__(self) -> Rollout:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._fleet.close()

    def status(self) -> tuple[State, tuple[ReplicaView, ...], list[Drift]]:
        """The file, every replica, and where they differ."""
        state, _ = read_state(self._storage.config.read(), self._settings.model, self._settings.labels)
        names = dataclasses.astuple(self._settings.labels)
        views = self._fleet.look(dict.fromkeys([*names, *state.labels]))
        return state, views, drift(state, views)

    def plan(self, version: int | None) -> list[tuple[str, str]]:
        """The edits of a whole rollout from here, each with its name and as a diff.

        Args:
            version: The version; None takes the one that is under way.

        Raises:
            Refused: Nothing is under way, or the file leaves no room.
        """
        session = self._session("plan", version, dry_run=True)
        prepare(session)
        state = session.state()
        version = version if version is not None else _needed(state.candidate, "a version that is under way")
        for step in ("load", "canary", "stable"):
            state = session.state()
            if step == "load":
                edit = state.load(version, self._settings.loaded_versions)
            else:
                edit = state.move_canary(version) if step == "canary" else state.move_stable(version)
            if edit is not None:
                session.write(edit)
        return list(session.outcome("").edits)

    def adopt(self) -> Outcome:
        """Names the versions that serve now and labels the newest stable: the way in from `latest` or `all`.

        Raises:
            Refused: A replica does not answer, or nothing serves everywhere.
            Busy: Another rollout is at work.
        """
        with self._command("adopt", None) as session:
            steps.adopt(session)
            return session.outcome(f"models.config names versions; version {session.state().stable} is stable")

    def canary(self, version: int) -> Outcome:
        """Names the version, waits until it serves everywhere, lets it through the gate, moves `canary`.

        Raises:
            Refused: It can't begin. Nothing was changed.
            Stopped: A step did not end well; the version was taken back.
            Busy: Another rollout is at work.
        """
        with self._command("canary", version) as session:
            self._to_canary(session, self._package(session, version))
            return session.outcome(f"version {version} is {self._settings.labels.canary}")

    def promote(self, version: int | None = None) -> Outcome:
        """Watches the canary, lets the version through the gate again, moves `stable`, watches that.

        Args:
            version: None takes the one that `canary` is at.

        Raises:
            Refused: "not-available", "no-canary" or "contract", among others. Nothing was changed.
            Stopped: A step did not end well; the version was taken back.
            Drifted: It is stable since an earlier command, and a replica is behind. Nothing was changed.
            Busy: Another rollout is at work.
        """
        with self._command("promote", version) as session:
            state = session.state()
            if version is None:
                at = state.labels.get(self._settings.labels.canary)
                version = session.version = _needed(at, f"label {self._settings.labels.canary!r} in models.config")
            if self._settled(session, version):
                return self._confirmed(session, version)
            package = self._package(session, version)
            refusals.refuse_unless_available(session, version)
            self._to_stable(session, package)
            return session.outcome(f"version {version} is {self._settings.labels.stable}")

    def run(self, version: int) -> Outcome:
        """All of it: `canary`, then `promote`.

        Raises:
            Refused: It can't begin. Nothing was changed.
            Stopped: A step did not end well; the version was taken back.
            Drifted: It is stable since an earlier command, and a replica is behind. Nothing was changed.
            Busy: Another rollout is at work.
        """
        with self._command("run", version) as session:
            if self._settled(session, version):
                return self._confirmed(session, version)
            package = self._package(session, version)
            if session.state().stable != version:
                self._to_canary(session, package)
            self._to_stable(session, package)
            return session.outcome(f"version {version} is {self._settings.labels.stable}")

    def rollback(self, version: int | None = None) -> Outcome:
        """Takes a version back, in one edit, whatever state the replicas are in.

        Then what had made room for it is loaded again, so that `previous` is where it was.

        Args:
            version: The version to take back. None takes the one under way, or else the one
                that `stable` is at, which goes back to `previous`.

        Raises:
            Refused: There is nothing to go back to.
            Busy: Another rollout is at work.
        """
        with self._command("rollback", version, urgent=True) as session:
            state = session.state()
            if version is None:
                version = state.candidate or (state.stable if state.previous is not None else None)
            if version is None:
                if steps.restore(session):
                    return session.outcome("nothing is under way; what had made room for a version is back")
                return session.outcome("nothing is under way and there is no previous version: nothing to roll back")
            session.version = version
            steps.withdraw(session, version)
            return session.outcome(f"version {version} is taken back; stable is {session.known().stable}")

    def retire(self, version: int) -> Outcome:
        """Unloads an old version everywhere.

        Raises:
            Refused: A label uses it, or models.config does not name it.
            Busy: Another rollout is at work.
        """
        with self._command("retire", version) as session:
            steps.retire(session, version)
            return session.outcome(f"version {version} is retired")

    def history(self) -> list[dict[str, Any]]:
        """The audit log of this model, oldest entry first."""
        return self._storage.records(self._settings.model)

    @staticmethod
    def _settled(session: Session, version: int) -> bool:
        """Whether the version is stable and its trial is over: then nothing may take it back but `rollback`."""
        return session.state().stable == version and not is_under_way(session.records(), version)

    def _confirmed(self, session: Session, version: int) -> Outcome:
        steps.confirm(session, version)
        stable = self._settings.labels.stable
        return session.outcome(f"version {version} is {stable} already, on every replica; nothing was done")

    @staticmethod
    def _package(session: Session, version: int) -> Package:
        """The version, when all that its trial needs is there."""
        prepare(session)
        return session.package(version)

    def _to_canary(self, session: Session, package: Package) -> None:
        version = package.version
        refusals.refuse_unless_free(session, version)
        refusals.refuse_unless_calm(session, version)
        refusals.refuse_unless_compatible(session, package)
        with steps.undoing(session, version):
            steps.load(session, package)
            hold_gate(session, "gate", package)
            steps.move_canary(session, version)

    def _to_stable(self, session: Session, package: Package) -> None:
        version = package.version
        with steps.undoing(session, version):
            if session.state().stable != version:
                refusals.refuse_unless_canary(session, version)
                steps.watch(session, "bake", version, self._settings.waits.bake)
                hold_gate(session, "bake", package)
                steps.move_stable(session, version)
            steps.watch(session, "watch", version, self._settings.waits.watch)
            hold_gate(session, "watch", package)

    def _session(self, command: str, version: int | None, *, dry_run: bool = False) -> Session:
        return Session(
            self._settings,
            self._storage,
            self._fleet,
            self._reporter,
            command=command,
            version=version,
            dry_run=dry_run or self._dry_run,
            allow_contract=self._allow_contract,
        )

    @contextlib.contextmanager
    def _command(self, command: str, version: int | None, *, urgent: bool = False) -> Iterator[Session]:
        session = self._session(command, version)
        if self._dry_run:
            yield session
            return
        self._storage.config.read()  # one that is not there is said before a lock and a history are made beside it
        with self._storage.lock.held(operator(), f"{command} {version or ''} of {self._settings.model}".strip()):
            session.log("started", urgent=urgent)
            try:
                yield session
            except Refused as error:
                session.log("refused", urgent=True, reason=error.reason, findings=[error.message, *error.findings])
                raise
            except Stopped as error:
                facts = {"step": error.step, "undone": error.undone, "findings": list(error.findings)}
                session.log("stopped", urgent=True, **facts)
                raise
            except RolloutError as error:
                ended = {} if error.undone is None else {"undone": error.undone}
                session.log("failed", urgent=True, findings=[str(error)], **ended)
                raise
            except KeyboardInterrupt:
                session.log("interrupted", urgent=True)
                raise
            session.log("finished", urgent=urgent)


def _needed(version: int | None, what: str) -> int:
    if version is None:
        raise Refused("no-version", f"expected {what}, or a version to be named. Received: neither")
    return version
