"""Takes model versions to production and back, by editing models.config: `python -m serving.rollout`."""

from serving.rollout.command import Outcome
from serving.rollout.errors import Busy, OutOfSync, Refused, RolloutError, SettingsError, Stopped
from serving.rollout.rollout import Rollout
from serving.rollout.settings import Labels, Limits, Settings, Signatures, Tls, Waits, read_settings

__all__ = [
    "Busy",
    "Labels",
    "Limits",
    "OutOfSync",
    "Outcome",
    "Refused",
    "Rollout",
    "RolloutError",
    "Settings",
    "SettingsError",
    "Signatures",
    "Stopped",
    "Tls",
    "Waits",
    "read_settings",
]
