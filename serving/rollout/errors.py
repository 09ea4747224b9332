"""The errors of a rollout: one tree, each with its exit code."""

from collections.abc import Sequence
from typing import Any, ClassVar


class RolloutError(Exception):
    """Base of every error of the rollout.

    Attributes:
        findings: What was expected and what received, one line each.
        undone: Whether the version was rolled back afterwards; None if that was not necessary.
        advice: What to do if it was not.
    """

    exit_code: ClassVar[int] = 1
    event: ClassVar[str] = "failed"
    """Its name in the history."""

    def __init__(self, message: str, findings: Sequence[str] = ()) -> None:
        super().__init__("\n".join([message, *(f"  - {finding}" for finding in findings)]))
        self.message = message
        self.findings = tuple(findings)
        self.undone: bool | None = None
        self.advice = "run `rollback`"

    @property
    def facts(self) -> dict[str, Any]:
        """What `--json` and the history have beside message and findings."""
        values = {name: getattr(self, name, None) for name in ("reason", "step", "undone")}
        return {name: value for name, value in values.items() if value is not None}


class Away(RolloutError):
    """A file or the cluster's API did not answer, perhaps temporarily."""


class SettingsError(RolloutError):
    """The settings or the arguments are wrong."""

    exit_code = 2


class Stopped(RolloutError):
    """A step failed: the version is worse, does not load, or does not load everywhere in time.

    Attributes:
        step: "rehearse", "load", "check", "canary", "bake", "stable" or "watch".
    """

    exit_code = 3
    event = "stopped"

    def __init__(self, step: str, message: str, findings: Sequence[str] = ()) -> None:
        super().__init__(message, findings)
        self.step = step
        self.undone = False


class Refused(RolloutError):
    """The command is not possible, or is dangerous, in the present state. Nothing was changed.

    Attributes:
        reason: A code for scripts: "not-available", "label-in-use", "contract", "checksums", …
    """

    exit_code = 4
    event = "refused"

    def __init__(self, reason: str, message: str, findings: Sequence[str] = ()) -> None:
        super().__init__(f"refused ({reason}): {message}", findings)
        self.reason = reason


class OutOfSync(RolloutError):
    """No rollout is under way, but the replicas are out of sync with the file. Nothing was changed."""

    exit_code = 6


class Busy(RolloutError):
    """Another rollout holds the lock, or somebody changed the config in the meantime."""

    exit_code = 5
