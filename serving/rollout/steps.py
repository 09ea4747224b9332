"""The steps of a rollout. Each does nothing when it is done already, and ends with proof from the replicas."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Sequence
from typing import Any

from serving.rollout.edits import Edit
from serving.rollout.errors import Busy, Drifted, Refused, RolloutError, Stopped
from serving.rollout.package import Package
from serving.rollout.replicas.fleet import ReplicaView
from serving.rollout.replicas.sync import drift, ended
from serving.rollout.session import Session
from serving.rollout.storage.entries import Room, made_room, was_retired
from serving.rollout.trial.trial import hold_rehearsal

__all__ = [
    "adopt",
    "confirm",
    "load",
    "move_canary",
    "move_stable",
    "restore",
    "retire",
    "undoing",
    "watch",
    "withdraw",
]


def adopt(session: Session) -> None:
    """Names what serves everywhere now, and labels it stable."""
    state = session.state()
    views = session.watcher.look(state)
    silent = [f"{view.address}: {view.error}" for view in views if not view.up]
    if silent:
        raise Refused("replicas", "expected every replica to answer. Received:", silent)
    sets = [{version for version in view.versions if view.available(version)} for view in views]
    edit = state.adopt(tuple(sorted(set.intersection(*sets))) if sets else ())
    _make(session, "adopt", edit, session.state().stable or 0)


def load(session: Session, package: Package) -> None:
    """Rehearses the version, names it, and waits until it serves everywhere."""
    most = session.settings.loaded_versions
    edit = session.state().load(package.version, most)
    if edit is not None and not session.dry_run:
        hold_rehearsal(session, package)
        edit = session.state().load(package.version, most)  # the rehearsal took its time
    state = session.state()
    room = [version for version in state.versions or () if edit and version not in (edit.versions or ())]
    facts: dict[str, Any] = {}
    if room:
        previous = state.labels.get(state.names.previous)
        facts["room"] = {"made_by": room, "stable": state.stable, "previous": previous}
        session.reporter.say("load", f"{_listed(room)} makes room; it comes back if {package.version} is taken back")
    _make(session, "load", edit, package.version, **facts)


def move_canary(session: Session, version: int) -> None:
    """Moves the canary label and waits until every replica answers with the version."""
    _make(session, "canary", session.state().move_canary(version), version)


def move_stable(session: Session, version: int) -> None:
    """Moves the stable label and waits until every replica answers with the version."""
    _make(session, "stable", session.state().move_stable(version), version)


def retire(session: Session, version: int) -> None:
    """Unnames a version and waits until no replica serves it.

    Raises:
        Refused: It is not named, and was not retired before either.
    """
    state = session.state()
    edit = state.retire(version)
    if edit is None and not was_retired(session.records(), version):
        named = ", ".join(map(str, state.versions or ()))
        raise Refused("not-named", f"expected a version that models.config names. Received: {version} beside {named}")
    _make(session, "retire", edit, version)


def confirm(session: Session, version: int) -> None:
    """Looks whether every replica follows the file, once, and changes nothing.

    Raises:
        Drifted: One does not.
    """
    state = session.state()
    views = session.watcher.look(state)
    found = [*map(str, drift(state, views)), *session.watcher.short(views)]
    if found:
        raise Drifted(
            f"version {version} is {session.settings.labels.stable} already and nothing is under way."
            " Expected every replica to follow models.config. Received:",
            found,
        )


def watch(session: Session, step: str, version: int, seconds: float) -> None:
    """Watches the replicas under real traffic.

    Raises:
        Stopped: A replica went away, keeps restarting, or lost the version.
    """
    if session.dry_run or seconds <= 0:
        return

    def lost(views: Sequence[ReplicaView]) -> list[str]:
        return ended(views, version)

    findings = session.watcher.follow(step, session.state(), seconds, lost)
    if findings:
        raise Stopped(step, f"{step}: version {version} did not do well under traffic:", findings)


def withdraw(session: Session, version: int) -> None:
    """Takes a version back in one edit, and waits for the replicas that answer."""
    begin = time.monotonic()
    edit = session.state().withdraw(version)
    if edit is None:
        session.reporter.say("rollback", f"version {version} has no label and is not named: nothing to take back")
    else:
        session.write(edit, urgent=True)
    if session.dry_run:
        restore(session)
        return
    left = session.watcher.after_rollback(session.known())
    session.warnings += left
    seconds = round(time.monotonic() - begin, 3)
    session.log("rolled back", urgent=True, version=version, seconds=seconds, left=left)
    session.reporter.say("rollback", "; ".join(left) or f"every replica follows after {seconds:.1f} s")
    restore(session, left)


def restore(session: Session, left: Sequence[str] = ()) -> bool:
    """Names again what made room for a version that was taken back, and gives it its label.

    Never raises a RolloutError: the version is taken back, and what is left is a warning.

    Args:
        session: The command.
        left: Replicas that did not follow; then it waits for another `rollback`.

    Returns:
        Whether something was restored.
    """
    room: Room | None = None
    try:
        room = made_room(session.records())
        state = session.state()
        if room is None or room.version in (state.versions or ()) or room.stable != state.stable:
            return False
        folder = session.settings.store / session.settings.model
        back = [version for version in room.made_by if (folder / str(version) / "saved_model.pb").is_file()]
        edit = state.restore(back, session.settings.loaded_versions)
        named = edit.versions if edit else state.versions
        wanted = room.previous if room.previous in room.made_by and room.previous in (named or ()) else None
        if edit is None and (wanted is None or state.labels.get(state.names.previous) == wanted):
            return False
        if left:
            raise RolloutError("Expected every replica to answer. Received: silence (run `rollback` again)")
        _make(session, "restore", edit, room.made_by[0])
        if wanted is not None:
            _make(session, "previous", session.state().move_previous(wanted), wanted)
    except RolloutError as error:
        session.warnings.append(f"{_listed(room.made_by) if room else 'what made room'} is not loaded again: {error}")
        session.reporter.say("restore", session.warnings[-1])
        if room is not None and not isinstance(error, Busy) and not left:
            _unname(session, room.made_by)
        return False
    return True


def _unname(session: Session, versions: Sequence[int]) -> None:
    """Takes back what could not be restored, so that the file says what the replicas can follow."""
    with contextlib.suppress(RolloutError):
        for version in versions:
            edit = session.state().withdraw(version)
            if edit is not None:
                session.write(edit, urgent=True)


def _listed(versions: Sequence[int]) -> str:
    return f"version {' and '.join(map(str, versions))}"


@contextlib.contextmanager
def undoing(session: Session, version: int) -> Iterator[None]:
    """Takes the version back when a step inside was stopped, or failed after an edit."""
    try:
        yield
    except Stopped as error:
        session.reporter.say(error.step, str(error))
        _undo(session, version, error)
        raise
    except Busy as error:
        if session.edited:  # hands off while somebody else is at work
            error.undone = False
            error.advice = "see `status`, then run the same command again, or `rollback`"
        raise
    except RolloutError as error:
        if session.edited:
            session.reporter.say("failed", str(error))
            _undo(session, version, error)
        raise


def _undo(session: Session, version: int, error: RolloutError) -> None:
    try:
        if not isinstance(error, Stopped) and session.state().withdraw(version) is None:
            return  # the edit was not made
        withdraw(session, version)
    except RolloutError as second:
        error.undone = False
        if isinstance(second, Refused):
            error.advice = second.message
        session.warnings.append(f"could not be undone: {second}")
        session.reporter.say("rollback", session.warnings[-1])
    else:
        error.undone = True


def _make(session: Session, step: str, edit: Edit | None, version: int, **facts: Any) -> None:
    """Writes an edit, unless it is there already, and waits until it has arrived."""
    before = () if edit is None or session.dry_run else session.fleet.look(())
    if edit is not None:
        session.write(edit, **facts)
    if not session.dry_run:
        session.watcher.until_arrived(step, session.state(), version, before)
        session.reporter.say(step, "arrived on every replica")
