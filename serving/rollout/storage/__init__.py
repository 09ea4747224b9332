"""Where the config, the lock and the history are: files, or objects of a cluster."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from serving.rollout.errors import SettingsError
from serving.rollout.settings import Settings, is_configmap
from serving.rollout.storage.history import FileHistory, History
from serving.rollout.storage.locks import FileLock, Lock
from serving.rollout.storage.targets import FileTarget, Target

__all__ = ["Place", "open_place"]

_KEY = "models.config"


@dataclasses.dataclass(frozen=True, slots=True)
class Place:
    """One models.config with its lock and its history."""

    target: Target
    lock: Lock
    history: History

    def records(self, model: str) -> list[dict[str, Any]]:
        """The history of one model, oldest entry first."""
        return [record for record in self.history.read() if record.get("model") == model]


def open_place(settings: Settings) -> Place:
    """What `settings.config` names. A file's lock and history are in `.rollout` beside it.

    Raises:
        SettingsError: "configmap:…" without a namespace or a name, or without the kubernetes package.
    """
    if not is_configmap(settings.config):
        path = Path(settings.config).absolute()
        state = settings.state or path.parent / ".rollout"
        return Place(FileTarget(path), FileLock(state / f"{path.name}.lock"), FileHistory(state / f"{path.name}.jsonl"))
    namespace, _, rest = settings.config.removeprefix("configmap:").partition("/")
    name, _, key = rest.partition("/")
    if not namespace or not name:
        raise SettingsError(f'Expected config "configmap:NAMESPACE/NAME[/KEY]". Received: {settings.config!r}')
    from serving.rollout.storage import cluster

    api = cluster.connect(settings.context)
    history: History = cluster.ConfigMapHistory(api, namespace, f"{name}-rollout")
    if settings.state is not None:
        history = FileHistory(settings.state / f"{namespace}-{name}.jsonl")
    return Place(
        cluster.ConfigMapTarget(api, namespace, name, key or _KEY),
        cluster.LeaseLock(api, namespace, f"{name}-rollout"),
        history,
    )
