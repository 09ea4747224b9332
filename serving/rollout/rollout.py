"""The commands: each reads the state of the file and the replicas, does the remaining steps, and can be repeated.

Only the file and the history carry over between runs, so it does not matter where or why
an earlier run ended.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

from serving.rollout import steps
from serving.rollout.command import Command, Outcome
from serving.rollout.edits import Edit, State, read_state
from serving.rollout.errors import Refused, RolloutError, Stopped
from serving.rollout.package import Package, open_package
from serving.rollout.replicas.discovery import discovery
from serving.rollout.replicas.fleet import Fleet, ReplicaView
from serving.rollout.replicas.sync import Difference, differences
from serving.rollout.reporter import Reporter
from serving.rollout.settings import Settings
from serving.rollout.storage import open_storage
from serving.rollout.storage.entries import is_under_way, operator
from serving.rollout.trial.running import prepare, run_check


class Rollout:
    """Rolls out one model. A context manager.

    Each command raises `Refused` if a precondition is not met (nothing was changed), `Stopped` if a step failed (the
    version was rolled back), `Busy` if another rollout is running, and `RolloutError` for anything else.

    Args:
        settings: The settings.
        reporter: Receives the progress.
        allow_contract: Continue although clients may not be able to follow.
        dry_run: Check and show what would be done, change nothing.
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
        self._reporter = reporter or Reporter()
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

    def __exit__(self, *_: object) -> None:
        self._fleet.close()

    def status(self) -> tuple[State, tuple[ReplicaView, ...], list[Difference]]:
        """The file, every replica, and where they differ."""
        state = read_state(self._storage.config.read(), self._settings.model, self._settings.labels)
        names = dataclasses.astuple(self._settings.labels)
        views = self._fleet.look(dict.fromkeys([*names, *state.labels]))
        return state, views, differences(state, views)

    def history(self) -> list[dict[str, Any]]:
        """The audit log of this model, oldest entry first."""
        return self._storage.records(self._settings.model)

    def plan(self, version: int | None) -> list[tuple[str, str]]:
        """The edits of a whole rollout from here, each with its name and as a diff. None: the one under way."""
        command = self._new_command("plan", version, dry_run=True)
        prepare(command)
        number = _needed(version or command.state().candidate, "a version that is under way")
        moves: tuple[Callable[[State], Edit | None], ...] = (
            lambda state: state.load(number, self._settings.loaded_versions),
            lambda state: state.move_canary(number),
            lambda state: state.move_stable(number),
        )
        for move in moves:
            if (edit := move(command.state())) is not None:
                command.write(edit)
        return list(command.outcome("").edits)

    def adopt(self) -> Outcome:
        """Names the versions that serve now and labels the newest stable, to start from `latest` or `all`."""
        with self._locked("adopt", None) as command:
            steps.adopt(command)
            return command.outcome(f"models.config names versions; version {command.state().stable} is stable")

    def canary(self, version: int) -> Outcome:
        """Names the version, waits until it serves everywhere, checks it, moves `canary`."""
        with self._locked("canary", version) as command:
            self._to_canary(command, _package(command, version))
            return command.outcome(f"version {version} is {self._settings.labels.canary}")

    def promote(self, version: int | None = None) -> Outcome:
        """Lets the canary bake, checks the version (None: the canary's) again, moves `stable`, watches that.

        Raises:
            OutOfSync: It is stable already, but a replica is out of sync. Nothing was changed.
        """
        with self._locked("promote", version) as command:
            if version is None:
                at = command.state().labels.get(self._settings.labels.canary)
                version = command.version = _needed(at, f"label {self._settings.labels.canary!r} in models.config")
            if _settled(command, version):
                return self._confirmed(command, version)
            package = _package(command, version)
            steps.refuse_unavailable(command, version)
            return self._to_stable(command, package)

    def run(self, version: int) -> Outcome:
        """The whole rollout: `canary`, then `promote`; raises as they do."""
        with self._locked("run", version) as command:
            if _settled(command, version):
                return self._confirmed(command, version)
            package = _package(command, version)
            if command.state().stable != version:
                self._to_canary(command, package)
            return self._to_stable(command, package)

    def rollback(self, version: int | None = None) -> Outcome:
        """Rolls a version back in one edit, in any state of the replicas.

        None: the one being rolled out, or else the stable one, which goes back to `previous`. Then the version that
        was unloaded for it is loaded again, and `previous` is restored.
        """
        with self._locked("rollback", version, urgent=True) as command:
            state = command.state()
            if version is None:
                version = state.candidate or (state.stable if state.previous is not None else None)
            if version is None:
                if steps.restore(command):
                    return command.outcome(
                        "no rollout is under way; the version that was unloaded for the last one is loaded again"
                    )
                return command.outcome(
                    "nothing to roll back: no rollout is under way, and there is no previous version"
                )
            command.version = version
            steps.withdraw(command, version)
            return command.outcome(
                f"rolled back: {self._settings.labels.stable} is version {command.known().stable or 'unset'}"
            )

    def retire(self, version: int) -> Outcome:
        """Unloads an old version everywhere."""
        with self._locked("retire", version) as command:
            steps.retire(command, version)
            return command.outcome(f"version {version} is retired")

    def _confirmed(self, command: Command, version: int) -> Outcome:
        steps.confirm(command, version)
        stable = self._settings.labels.stable
        return command.outcome(f"version {version} is {stable} already, on every replica: nothing to do")

    def _to_canary(self, command: Command, package: Package) -> None:
        version = package.version
        steps.refuse_beside_another(command, version)
        steps.refuse_out_of_sync(command, version)
        steps.refuse_incompatible(command, package)
        with steps.undoing(command, version):
            steps.load(command, package)
            run_check(command, "check", package)
            steps.move_canary(command, version)

    def _to_stable(self, command: Command, package: Package) -> Outcome:
        version = package.version
        with steps.undoing(command, version):
            if command.state().stable != version:
                steps.refuse_without_canary(command, version)
                steps.watch(command, "bake", version, self._settings.waits.bake)
                run_check(command, "bake", package)
                steps.move_stable(command, version)
            steps.watch(command, "watch", version, self._settings.waits.watch)
            run_check(command, "watch", package)
        return command.outcome(f"version {version} is {self._settings.labels.stable}")

    def _new_command(self, name: str, version: int | None, *, dry_run: bool) -> Command:
        parts = (self._settings, self._storage, self._fleet, self._reporter)
        return Command(*parts, name, version, dry_run, self._allow_contract)

    @contextlib.contextmanager
    def _locked(self, name: str, version: int | None, *, urgent: bool = False) -> Iterator[Command]:
        command = self._new_command(name, version, dry_run=self._dry_run)
        if self._dry_run:
            yield command
            return
        self._storage.config.read()  # so that a missing one is an error before a lock and a history are created
        with self._storage.lock.held(operator(), f"{name} {version or ''} of {self._settings.model}".strip()):
            command.log("started", urgent=urgent)
            try:
                yield command
            except RolloutError as error:
                message = () if isinstance(error, Stopped) else (error.message,)
                command.log(error.event, urgent=True, findings=[*message, *error.findings], **error.facts)
                raise
            except KeyboardInterrupt:
                command.log("interrupted", urgent=True)
                raise
            command.log("finished", urgent=urgent)


def _package(command: Command, version: int) -> Package:
    """The version's folder, checked, after everything else that its trial needs was checked."""
    prepare(command)
    command.reporter.report("store", f"checking every file of version {version}")
    settings = command.settings
    return open_package(settings.store, settings.model, version, settings.signatures)


def _settled(command: Command, version: int) -> bool:
    """Whether the version is stable and its trial is over, so that only `rollback` may roll it back."""
    return command.state().stable == version and not is_under_way(command.records(), version)


def _needed(version: int | None, what: str) -> int:
    if version is None:
        raise Refused("no-version", f"expected {what}, or a version as an argument. Received: neither")
    return version
