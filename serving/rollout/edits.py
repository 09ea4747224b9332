"""The edits of models.config that make up a rollout: pure functions; None when there is nothing to do.

    adopt   name the serving versions              where the file left the choice to the servers
    load    name the new version                    labels stay
    canary  `canary` goes to it                     it serves everywhere by then
    stable  `stable` goes to it, `previous` stays   one edit back: `withdraw`
    retire  unname the old version
    restore name again what was unloaded for a version that was rolled back; `previous` follows

A server takes a new config labels first, and refuses all of it while a label points to a
version that does not serve. So a label never moves in the edit that names its version, but an
edit may move a label off a version and unname that version.
"""

import dataclasses
import difflib
from collections.abc import Mapping, Sequence

from serving.models_config import modelfile
from serving.models_config.modelfile import Specific
from serving.rollout.errors import Refused, RolloutError
from serving.rollout.settings import Labels


@dataclasses.dataclass(frozen=True, slots=True)
class Edit:
    """One change of one model: the versions to name (None leaves them), and the labels to move (None removes one)."""

    step: str
    versions: tuple[int, ...] | None = None
    labels: Mapping[str, int | None] = dataclasses.field(default_factory=dict)

    def apply(self, text: str, model: str) -> str:
        """The text of models.config with the edit made."""
        try:
            return modelfile.edit(text, model, versions=self.versions, labels=self.labels)
        except ValueError as error:
            raise RolloutError(f"Expected models.config to take the edit {self.step!r}. Received: {error}") from error


@dataclasses.dataclass(frozen=True, slots=True)
class State:
    """The state of one model in the file, and the edits from there. Only the policy `specific` has versions."""

    versions: tuple[int, ...] | None
    labels: Mapping[str, int]
    names: Labels

    @property
    def stable(self) -> int | None:
        """Where production traffic goes; None without the label."""
        return self.labels.get(self.names.stable)

    @property
    def previous(self) -> int | None:
        """The version that a rollback of `stable` restores; None without one."""
        found = self.labels.get(self.names.previous)
        loaded = self.versions is None or found in self.versions
        return found if loaded and found != self.stable else None

    @property
    def candidate(self) -> int | None:
        """The version that is being rolled out: the canary's, or one that is named and has no label yet."""
        canary = self.labels.get(self.names.canary)
        if canary is not None and canary != self.stable:
            return canary
        newer = [version for version in self.versions or () if self.stable is not None and version > self.stable]
        return next((version for version in sorted(newer, reverse=True) if version not in self.labels.values()), None)

    def adopt(self, serving: tuple[int, ...]) -> Edit | None:
        """Names the versions that serve everywhere, and labels the newest stable, where the file leaves it to servers.

        Raises:
            Refused: None serves everywhere.
        """
        if self.versions is not None and self.stable is not None:
            return None
        named = serving if self.versions is None else self.versions
        stable = self.stable if self.stable is not None else max(set(serving) & set(named), default=None)
        if stable is None:
            raise Refused("not-available", "expected a version that serves on every replica. Received: none")
        return Edit("adopt", None if self.versions is not None else named, {self.names.stable: stable})

    def load(self, version: int, most: int) -> Edit | None:
        """Names a version, of at most `most`. Older ones that only `previous` uses are unnamed to make room.

        Raises:
            Refused: There is no room, or the file does not name versions and `stable`.
        """
        if self.versions is None or self.stable is None:
            raise Refused(
                "not-adopted",
                f"expected models.config to name versions (specific) and label {self.names.stable!r}."
                " Received: a file that leaves it to the servers (run `adopt`, before the new version is published)",
            )
        if version in self.versions:
            return None
        pinned = {number for label, number in self.labels.items() if label != self.names.previous}
        kept = list(self.versions)
        for number in sorted(self.versions):
            if len(kept) >= most and number not in pinned:
                kept.remove(number)
        if len(kept) >= most:
            raise Refused(
                "no-room",
                f"expected room for {version} among {most} versions loaded at once (loaded_versions)."
                f" Received: {', '.join(map(str, kept))}, all of them in use",
            )
        moved = {self.names.previous: self.stable} if self.labels.get(self.names.previous, kept[0]) not in kept else {}
        return Edit("load", (*kept, version), moved)

    def move_canary(self, version: int) -> Edit | None:
        """Sends the canary's share to a version."""
        at = self.labels.get(self.names.canary)
        return None if at == version else Edit("canary", None, {self.names.canary: version})

    def move_stable(self, version: int) -> Edit | None:
        """Sends production traffic to a version, and keeps the earlier one as `previous`."""
        if self.stable == version:
            return None
        kept = {} if self.stable is None else {self.names.previous: self.stable}
        return Edit("stable", None, {self.names.stable: version, **kept})

    def withdraw(self, version: int) -> Edit | None:
        """Rolls a version back in one edit: its labels return to their earlier versions, and it is unnamed.

        Raises:
            Refused: It is the stable one and there is no previous one.
        """
        back = self.previous if self.stable == version else self.stable
        if self.stable == version and back is None:
            raise Refused("no-previous", f"expected a version before {version} to go back to. Received: none")
        ours = dataclasses.astuple(self.names)
        using = [label for label, number in self.labels.items() if number == version]
        labels = {label: back for label in using if label in ours}
        named = self.versions or ()
        unneeded = version in named and len(labels) == len(using)
        kept = tuple(number for number in named if number != version) if unneeded else None
        if not labels and kept is None:
            return None
        return Edit("withdraw", kept, labels)

    def restore(self, versions: Sequence[int], most: int) -> Edit | None:
        """Names versions again that were unloaded for one that was rolled back, if at most `most` are named then."""
        missing = [version for version in versions if version not in (self.versions or ())]
        if self.versions is None or not missing or len(self.versions) + len(missing) > most:
            return None
        return Edit("restore", (*missing, *self.versions))

    def move_previous(self, version: int) -> Edit | None:
        """Sends a rollback of `stable` to a version that is named."""
        if self.labels.get(self.names.previous) == version or version not in (self.versions or ()):
            return None
        return Edit("previous", None, {self.names.previous: version})

    def retire(self, version: int) -> Edit | None:
        """Unnames a version; refused if a label uses it, or it is the only one."""
        using = [label for label, number in self.labels.items() if number == version]
        if in_use := ", ".join(label for label in using if label != self.names.previous):
            raise Refused(
                "label-in-use",
                f"expected a version that no label uses. Received: {version},"
                f" which is {in_use} (roll back or promote another one first)",
            )
        if self.versions is None:
            raise Refused("not-named", "expected a policy that names versions (specific). Received: latest or all")
        if version not in self.versions:
            return None
        kept = tuple(number for number in self.versions if number != version)
        if not kept:
            what = f"expected another version beside {version}. Received: none: nothing would serve"
            raise Refused("last-version", what)
        return Edit("retire", kept, dict.fromkeys(using))


def read_state(text: str, model: str, names: Labels) -> State:
    """The state of one model in a models.config; refused if the file has no such model, or cannot be read."""
    try:
        models = modelfile.parse(text)
    except ValueError as error:
        raise Refused("config", f"expected a models.config that can be read. Received: {error}") from error
    found = next((config for config in models if config.name == model), None)
    if found is None:
        names_there = ", ".join(config.name for config in models) or "no models"
        raise Refused("unknown-model", f"expected model {model!r} in models.config. Received: {names_there}")
    versions = found.policy.versions if isinstance(found.policy, Specific) else None
    return State(versions, found.labels, names)


def difference(before: str, after: str, name: str) -> str:
    """A unified diff of two texts of models.config; empty when they are equal."""
    lines = difflib.unified_diff(
        before.splitlines(keepends=True), after.splitlines(keepends=True), f"{name} (now)", f"{name} (then)"
    )
    return "".join(line if line.endswith("\n") else line + "\n" for line in lines)
