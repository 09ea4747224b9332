"""One command of the rollout: its config, edits, history and progress."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from serving.rollout.edits import Edit, State, difference, read_state
from serving.rollout.errors import RolloutError
from serving.rollout.replicas.fleet import Fleet
from serving.rollout.replicas.watcher import Watcher
from serving.rollout.reporter import Reporter
from serving.rollout.settings import Settings
from serving.rollout.storage import Storage
from serving.rollout.storage.entries import entry
from serving.rollout.trial.comparison import Input
from serving.rollout.trial.live_check import CheckReport


@dataclasses.dataclass(frozen=True, slots=True)
class Outcome:
    """How a command ended.

    Attributes:
        text: The result as text.
        edits: The edits that were made, or in a dry run would be: name and diff.
        checks: The checks that were passed.
        warnings: Remaining problems, such as replicas that did not answer.
        dry_run: Nothing was changed.
    """

    text: str
    edits: tuple[tuple[str, str], ...]
    checks: tuple[CheckReport, ...]
    warnings: tuple[str, ...]
    dry_run: bool


@dataclasses.dataclass
class Command:
    """A command of the rollout: its config, history and progress.

    Attributes:
        name: For the history, as `version`.
        dry_run: Edits are made in memory only.
        allow_contract: Don't look at the contract.
        inputs: The inputs of the settings, once they are read.
        checks: The checks that were passed.
        warnings: What was left behind.
        watcher: Watches the replicas.
    """

    settings: Settings
    storage: Storage
    fleet: Fleet
    reporter: Reporter
    name: str
    version: int | None
    dry_run: bool
    allow_contract: bool
    inputs: Sequence[Input] = ()
    checks: list[CheckReport] = dataclasses.field(default_factory=list)
    warnings: list[str] = dataclasses.field(default_factory=list)

    def __post_init__(self) -> None:
        self.watcher = Watcher(self.fleet, self.settings, self.reporter)
        self._seen = ""
        self._pretended: str | None = None
        self._edits: list[tuple[str, str]] = []

    def outcome(self, text: str) -> Outcome:
        """The outcome of a command that succeeded."""
        if self.dry_run:
            planned = f"{len(self._edits)} edits would be made" if self._edits else "no edit to make"
            text = f"nothing was changed; {planned}"
        return Outcome(text, tuple(self._edits), tuple(self.checks), tuple(self.warnings), self.dry_run)

    def log(self, event: str, *, urgent: bool = False, **facts: Any) -> None:
        """Adds an entry with some figures to the history; when it can't be written and is urgent, only warns."""
        record = entry(event, self.name, self.settings.model, **{"version": self.version, **facts})
        try:
            self.storage.history.append(record)
        except RolloutError as error:
            if not urgent:
                raise
            self.warn("history", str(error))

    def warn(self, step: str, text: str) -> None:
        """Reports a problem now, and in the outcome."""
        self.warnings.append(text)
        self.reporter.report(step, text)

    def records(self) -> list[dict[str, Any]]:
        """The history of the model, oldest entry first."""
        return self.storage.records(self.settings.model)

    def state(self) -> State:
        """The current content of the file. The next edit applies to this and nothing newer."""
        if self._pretended is None:
            self._seen = self.storage.config.read()
        return self.known()

    def known(self) -> State:
        """The content of the file when it was last read or written. Does not read it, so it can't fail."""
        return read_state(self._text(), self.settings.model, self.settings.labels)

    @property
    def pretends(self) -> bool:
        """Whether a dry run has made an edit, which the replicas don't know."""
        return self._pretended is not None

    @property
    def edited(self) -> bool:
        """Whether an edit of the real file was tried."""
        return bool(self._edits) and not self.dry_run

    def against(self, version: int) -> int | None:
        """The version to compare with: the stable one, or the previous one if it is stable itself."""
        state = self.state()
        return state.previous if state.stable == version else state.stable

    def write(self, edit: Edit, *, urgent: bool = False, **facts: Any) -> None:
        """Makes an edit of the config that `state` read last, with an entry as of `log`.

        Raises:
            Busy: Somebody else changed the config since, or the lock was lost.
        """
        before = self._text()
        after = edit.apply(before, self.settings.model)
        shown = difference(before, after, self.storage.config.name)
        self._edits.append((edit.step, shown))
        if self.dry_run:
            self._pretended = after
            return
        self.storage.lock.check()
        # Before the edit: an edit without an entry is worse than an entry without an edit.
        self.log("edit", urgent=urgent, step=edit.step, diff=shown, **facts)
        self.storage.config.write(after, self._seen)
        self._seen = after
        self.reporter.report(edit.step, f"{self.storage.config.name} edited")

    def _text(self) -> str:
        return self._seen if self._pretended is None else self._pretended
