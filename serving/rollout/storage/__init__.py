"""Storage of the config, its lock and its history: files, or objects of a cluster.

A config has `name` (for messages), `read` and `write`, which replaces the text that was read, atomically; a lock has
`held` and `check`, which is called before each edit; a history has `append` and `read`. All raise `Busy` when
somebody else was at work, and `RolloutError` when they can't be read or written.
"""

import dataclasses
from pathlib import Path
from typing import Any

from serving.rollout.errors import SettingsError
from serving.rollout.settings import Settings, is_configmap
from serving.rollout.storage.api import ClusterApi
from serving.rollout.storage.cluster import ConfigMapEntry, ConfigMapHistory, LeaseLock
from serving.rollout.storage.files import ConfigFile, FileHistory, FileLock

__all__ = ["Storage", "open_storage"]


@dataclasses.dataclass(frozen=True, slots=True)
class Storage:
    """One models.config with its lock and its history."""

    config: ConfigFile | ConfigMapEntry
    lock: FileLock | LeaseLock
    history: FileHistory | ConfigMapHistory

    def records(self, model: str) -> list[dict[str, Any]]:
        """The history of one model, oldest entry first; broken lines are left out."""
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
    api = ClusterApi(settings.context, patience)
    history: FileHistory | ConfigMapHistory = ConfigMapHistory(api, namespace, f"{name}-rollout")
    if settings.state is not None:
        history = FileHistory(settings.state / f"{namespace}-{name}.jsonl")
    entry = ConfigMapEntry(api, namespace, name, key or "models.config")
    return Storage(entry, LeaseLock(api, namespace, f"{name}-rollout"), history)
