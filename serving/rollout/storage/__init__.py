"""Storage of the config, its lock and its history: files, or objects of a cluster."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from serving.rollout.errors import SettingsError
from serving.rollout.settings import Settings, is_configmap
from serving.rollout.storage.files import ConfigFile, FileHistory, FileLock

__all__ = ["History", "Lock", "Storage", "StoredConfig", "open_storage"]

_KEY = "models.config"


class StoredConfig(Protocol):
    """A models.config, written only if it still has the text that was read.

    Attributes:
        name: For messages: a path, or the ConfigMap's name.
    """

    name: str

    def read(self) -> str:
        """The config now.

        Raises:
            RolloutError: It can't be read.
        """

    def write(self, text: str, over: str) -> None:
        """Replaces `over` by `text`, atomically.

        Raises:
            Busy: The config is not `over` any more. Nothing was written.
            RolloutError: It can't be written.
        """


class Lock(Protocol):
    """One rollout at a time on one models.config."""

    def held(self, who: str, what: str) -> contextlib.AbstractContextManager[None]:
        """Holds the lock for a block.

        Args:
            who: The holder, shown to others.
            what: The command, shown to others.

        Raises:
            Busy: Somebody else has it.
        """

    def check(self) -> None:
        """Called before each edit.

        Raises:
            Busy: The lock was lost.
        """


class History(Protocol):
    """Storage of the history entries."""

    def append(self, record: Mapping[str, Any]) -> None:
        """Adds an entry permanently.

        Raises:
            RolloutError: It can't be written.
        """

    def read(self) -> list[dict[str, Any]]:
        """Every entry, oldest first; broken lines are left out.

        Raises:
            RolloutError: It can't be read.
        """


@dataclasses.dataclass(frozen=True, slots=True)
class Storage:
    """One models.config with its lock and its history."""

    config: StoredConfig
    lock: Lock
    history: History

    def records(self, model: str) -> list[dict[str, Any]]:
        """The history of one model, oldest entry first."""
        return [record for record in self.history.read() if record.get("model") == model]


def open_storage(settings: Settings) -> Storage:
    """The storage for `settings.config`. A file's lock and history are in `.rollout` beside it.

    Raises:
        SettingsError: "configmap:…" without a namespace or a name, or without the kubernetes package.
    """
    patience = settings.waits.missing
    if not is_configmap(settings.config):
        path = Path(settings.config).absolute()
        state = settings.state or path.parent / ".rollout"
        config = ConfigFile(path, patience)
        return Storage(config, FileLock(state / f"{path.name}.lock"), FileHistory(state / f"{path.name}.jsonl"))
    namespace, _, rest = settings.config.removeprefix("configmap:").partition("/")
    name, _, key = rest.partition("/")
    if not namespace or not name:
        raise SettingsError(f'Expected config "configmap:NAMESPACE/NAME[/KEY]". Received: {settings.config!r}')
    from serving.rollout.storage.api import ClusterApi
    from serving.rollout.storage.cluster import ConfigMapEntry, ConfigMapHistory, LeaseLock

    api = ClusterApi(settings.context, patience)
    history: History = ConfigMapHistory(api, namespace, f"{name}-rollout")
    if settings.state is not None:
        history = FileHistory(settings.state / f"{namespace}-{name}.jsonl")
    entry = ConfigMapEntry(api, namespace, name, key or _KEY)
    return Storage(entry, LeaseLock(api, namespace, f"{name}-rollout"), history)
