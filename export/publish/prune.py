"""Removes old versions from a store, never one that a models.config names.

The config is parsed with the servers' own proto. It is read again after a version has been hidden
and before it is deleted: if a rollout names it by then, it is restored.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Literal

from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2

from export.errors import StoreError
from export.publish.store import ModelStore


@dataclasses.dataclass(frozen=True, slots=True)
class Verdict:
    """Whether to remove a version, by its number, and why."""

    version: int
    remove: bool
    reason: Literal["named", "newer than what is named", "among the newest", "old", "asked for", "not asked for"]


def named_versions(configs: Sequence[bytes], model: str, versions: Sequence[int]) -> set[int]:
    """The versions, of those in the store, that a server with one of these models.config files would serve.

    Raises:
        StoreError: One can't be parsed, or none of them has the model.
    """
    found, known = set[int](), False
    for text in configs:
        try:
            parsed = text_format.Parse(text, model_server_config_pb2.ModelServerConfig())
        except (text_format.ParseError, UnicodeDecodeError) as error:
            raise StoreError(f"Expected a models.config. Received: {error}") from error
        for config in parsed.model_config_list.config:
            if config.name != model:
                continue
            known = True
            policy = config.model_version_policy
            found.update(config.version_labels.values())
            if policy.HasField("specific"):
                found.update(policy.specific.versions)
            elif policy.HasField("all"):
                found.update(versions)
            else:
                found.update(sorted(versions)[-(policy.latest.num_versions or 1) :])
    if not known:
        raise StoreError(
            f"Expected model {model!r} in a models.config. Received: none that has it; is it the right file?"
        )
    return found


def judge(versions: Sequence[int], named: set[int], *, keep: int, only: Sequence[int] = ()) -> list[Verdict]:
    """Whether to remove each version in the store, oldest first.

    Args:
        versions: Those in the store.
        named: Those that a config names.
        keep: Number of the newest versions to keep in any case.
        only: Remove these and no others, however new.

    Raises:
        StoreError: One of `only` is named, or not in the store.
    """
    wrong = [f"{version} is named by models.config" for version in only if version in named]
    wrong += [f"{version} is not in the store" for version in only if version not in versions]
    if wrong:
        raise StoreError(f"Expected versions to remove that nothing names. Received: {'; '.join(wrong)}")
    newest = sorted(versions)[-keep:] if keep else []
    return [_judge(version, named, newest, only) for version in sorted(versions)]


def prune(store: ModelStore, verdicts: Sequence[Verdict], named_now: Callable[[], set[int]]) -> list[int]:
    """Deletes the versions to remove; returns them. `named_now` gives the versions that the configs name by then.

    Raises:
        StoreError: The store can't be changed.
    """
    return [
        verdict.version
        for verdict in verdicts
        if verdict.remove and store.remove(verdict.version, lambda version: version not in named_now())
    ]


def _judge(version: int, named: set[int], newest: Sequence[int], only: Sequence[int]) -> Verdict:
    if version in named:
        return Verdict(version, False, "named")
    if only:
        return Verdict(version, version in only, "asked for" if version in only else "not asked for")
    if named and version > max(named):
        return Verdict(version, False, "newer than what is named")
    if version in newest:
        return Verdict(version, False, "among the newest")
    return Verdict(version, True, "old")
