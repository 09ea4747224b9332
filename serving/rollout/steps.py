"""What must hold before a rollout changes anything, and its steps.

Each `refuse_…` raises Refused, with a reason. Each step does nothing if it is done already, and ends with confirmation
by the replicas.
"""

import contextlib
import time
from collections.abc import Iterator, Sequence
from typing import Any

from duoserve import DuoserveError
from serving.rollout.command import Command
from serving.rollout.edits import Edit
from serving.rollout.errors import Busy, OutOfSync, Refused, RolloutError, Stopped
from serving.rollout.package import Package, contract_of, incompatible
from serving.rollout.replicas.sync import differences, shown
from serving.rollout.storage.entries import Displaced, displaced, was_retired
from serving.rollout.trial.rehearsal import rehearse


def refuse_beside_another(command: Command, version: int) -> None:
    """Refuses while another version is under way, or this one is stable already."""
    state, labels = command.state(), command.settings.labels
    if state.stable == version:
        raise Refused("is-stable", f"expected another version than {labels.stable}. Received: {version}")
    canary = state.labels.get(labels.canary)
    if canary not in (None, state.stable, version):
        raise Refused(
            "other-rollout",
            f"expected no other version under way. Received: {labels.canary} is at {canary}"
            " (promote it or roll it back first)",
        )


def refuse_out_of_sync(command: Command, version: int) -> None:
    """Refuses while replicas are missing or differ from the file in more than this version."""
    begin = time.monotonic()
    state = command.state()
    while True:
        views = command.watcher.look(state)
        found = [str(one) for one in differences(state, views) if not one.versions or one.versions - {version}]
        found += command.watcher.short(views)
        if not found:
            return
        # A run that was killed right after an edit leaves replicas that have not read it yet.
        if command.dry_run or time.monotonic() - begin > command.settings.waits.missing:
            raise Refused("replicas", "expected every replica to answer and to follow the file. Received:", found)
        command.reporter.progress("replicas", 0, len(views), found[0])
        time.sleep(command.settings.waits.poll)


def refuse_incompatible(command: Command, package: Package) -> None:
    """Refuses a contract that clients of the stable version can't follow. The check asks the live version again."""
    stable = command.against(package.version)
    for address in command.fleet.addresses() if not command.allow_contract else ():
        try:
            old = command.fleet.client(address, stable).preprocessor().spec
        except DuoserveError:
            continue  # ask another replica
        findings = incompatible(contract_of(old), package.contract, command.settings.clients)
        if findings:
            what = f"expected version {package.version} to fit the clients of version {stable}. Received:"
            raise Refused("contract", what, findings)
        return


def refuse_unavailable(command: Command, version: int) -> None:
    """Refuses a version that does not serve on every replica."""
    if command.dry_run and command.pretends:
        return
    state = command.state()
    views = command.watcher.look(state)
    findings = [
        f"{view.address}: {view.error or shown(view, version)}" for view in views if not view.available(version)
    ]
    if state.versions is not None and version not in state.versions:
        findings.append("models.config does not name it")
    findings += command.watcher.short(views)
    if findings:
        raise Refused(
            "not-available", f"expected version {version} to be AVAILABLE on every replica. Received:", findings
        )


def refuse_without_canary(command: Command, version: int) -> None:
    """Refuses to promote a version that is not the canary."""
    canary = command.settings.labels.canary
    at = command.state().labels.get(canary)
    if at != version:
        received = at or "no such label"
        raise Refused(
            "no-canary",
            f"expected {canary} at version {version}. Received: {received} (run `canary {version}` first)",
        )


def adopt(command: Command) -> None:
    """Names the versions that serve everywhere now, and labels the newest stable."""
    state = command.state()
    views = command.watcher.look(state)
    if silent := [f"{view.address}: {view.error}" for view in views if not view.up]:
        raise Refused("replicas", "expected every replica to answer. Received:", silent)
    sets = [{version for version in view.versions if view.available(version)} for view in views]
    edit = state.adopt(tuple(sorted(set.intersection(*sets))) if sets else ())
    _make(command, "adopt", edit, state.stable or 0)


def load(command: Command, package: Package) -> None:
    """Rehearses the version, names it, and waits until it serves everywhere."""
    most = command.settings.loaded_versions
    state = command.state()
    edit = state.load(package.version, most)
    if edit is not None and not command.dry_run:
        rehearse(command, package)
        state = command.state()  # the file may have changed
        edit = state.load(package.version, most)
    room = [version for version in state.versions or () if edit and version not in (edit.versions or ())]
    facts: dict[str, Any] = {}
    if room:
        previous = state.labels.get(state.names.previous)
        facts["room"] = {"made_by": room, "stable": state.stable, "previous": previous}
        command.reporter.report(
            "load", f"{_listed(room)} is unloaded to make room; it is loaded again if {package.version} is rolled back"
        )
    _make(command, "load", edit, package.version, **facts)


def move_canary(command: Command, version: int) -> None:
    """Moves the canary label and waits until every replica answers with the version."""
    _make(command, "canary", command.state().move_canary(version), version)


def move_stable(command: Command, version: int) -> None:
    """Moves the stable label and waits until every replica answers with the version."""
    _make(command, "stable", command.state().move_stable(version), version)


def retire(command: Command, version: int) -> None:
    """Unnames a version and waits until no replica serves it; refused if it is not named, nor was retired before."""
    state = command.state()
    edit = state.retire(version)
    if edit is None and not was_retired(command.records(), version):
        named = ", ".join(map(str, state.versions or ()))
        raise Refused("not-named", f"expected a version that models.config names. Received: {version} beside {named}")
    _make(command, "retire", edit, version)


def confirm(command: Command, version: int) -> None:
    """Checks once that every replica is in sync with the file; else raises OutOfSync. Changes nothing."""
    state = command.state()
    views = command.watcher.look(state)
    found = [*map(str, differences(state, views)), *command.watcher.short(views)]
    if found:
        raise OutOfSync(
            f"version {version} is {command.settings.labels.stable} already, and no rollout is under way."
            " Expected every replica to follow models.config. Received:",
            found,
        )


def watch(command: Command, step: str, version: int, seconds: float) -> None:
    """Watches the replicas under real traffic.

    Raises:
        Stopped: A replica went away, keeps restarting, or lost the version.
    """
    if command.dry_run or seconds <= 0:
        return
    if findings := command.watcher.follow(step, command.state(), version, seconds):
        raise Stopped(step, f"{step}: version {version} failed under traffic:", findings)


def withdraw(command: Command, version: int) -> None:
    """Rolls a version back in one edit, and waits for the replicas that answer."""
    begin = time.monotonic()
    edit = command.state().withdraw(version)
    if edit is None:
        command.reporter.report("rollback", f"version {version} has no label and is not named: nothing to roll back")
    else:
        command.write(edit, urgent=True)
    left: list[str] = []
    if not command.dry_run:
        left = command.watcher.after_rollback(command.known())
        command.warnings += left
        seconds = round(time.monotonic() - begin, 3)
        command.log("rolled back", urgent=True, version=version, seconds=seconds, left=left)
        command.reporter.report("rollback", "; ".join(left) or f"every replica follows after {seconds:.1f} s")
    restore(command, left)


def restore(command: Command, left: Sequence[str] = ()) -> bool:
    """Names again the versions that were unloaded for one that was rolled back, and restores `previous`.

    Never raises a RolloutError: the rollback is done, and the rest is a warning. While some replicas are `left` that do
    not follow, nothing is restored; returns whether something was.
    """
    room: Displaced | None = None
    try:
        room = displaced(command.records())
        state = command.state()
        if room is None or room.version in (state.versions or ()) or room.stable != state.stable:
            return False
        folder = command.settings.store / command.settings.model
        back = [version for version in room.made_by if (folder / str(version) / "saved_model.pb").is_file()]
        edit = state.restore(back, command.settings.loaded_versions)
        named = edit.versions if edit else state.versions
        wanted = room.previous if room.previous in room.made_by and room.previous in (named or ()) else None
        if edit is None and (wanted is None or state.labels.get(state.names.previous) == wanted):
            return False
        if left:
            raise RolloutError("Expected every replica to answer. Received: no answer (run `rollback` again)")
        _make(command, "restore", edit, room.made_by[0])
        if wanted is not None:
            _make(command, "previous", command.state().move_previous(wanted), wanted)
    except RolloutError as error:
        unloaded = _listed(room.made_by) if room else "the unloaded version"
        command.warn("restore", f"{unloaded} is not loaded again: {error}")
        if room is not None and not isinstance(error, Busy) and not left:
            _unname(command, room.made_by)
        return False
    return True


def _unname(command: Command, versions: Sequence[int]) -> None:
    """Unnames what could not be restored, so that the replicas can follow the file."""
    with contextlib.suppress(RolloutError):
        for version in versions:
            edit = command.state().withdraw(version)
            if edit is not None:
                command.write(edit, urgent=True)


def _listed(versions: Sequence[int]) -> str:
    return f"version {' and '.join(map(str, versions))}"


@contextlib.contextmanager
def undoing(command: Command, version: int) -> Iterator[None]:
    """Rolls the version back when a step inside was stopped, or failed after an edit."""
    try:
        yield
    except Busy as error:
        if command.edited:  # somebody else is making changes
            error.undone = False
            error.advice = "see `status`, then run the same command again, or `rollback`"
        raise
    except RolloutError as error:
        if isinstance(error, Stopped) or command.edited:
            command.reporter.report(error.step if isinstance(error, Stopped) else "failed", str(error))
            _undo(command, version, error)
        raise


def _undo(command: Command, version: int, error: RolloutError) -> None:
    try:
        if not isinstance(error, Stopped) and command.state().withdraw(version) is None:
            return  # the edit was not made
        withdraw(command, version)
    except RolloutError as second:
        error.undone = False
        if isinstance(second, Refused):
            error.advice = second.message
        command.warn("rollback", f"could not be rolled back: {second}")
    else:
        error.undone = True


def _make(command: Command, step: str, edit: Edit | None, version: int, **facts: Any) -> None:
    """Writes an edit, unless it was made already, and waits until it has arrived."""
    before = () if edit is None or command.dry_run else command.fleet.look(())
    if edit is not None:
        command.write(edit, **facts)
    if not command.dry_run:
        command.watcher.until_arrived(step, command.state(), version, before)
        command.reporter.report(step, "arrived on every replica")
