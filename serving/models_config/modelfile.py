"""Edits `models.config` in place: comments and everything else stay unchanged.

    config = parse(text)
    text = edit(text, "duo", versions=[7, 8])
    text = edit(text, "duo", labels={"stable": 8})

Needs no TensorFlow. The result of an edit is parsed again before it is returned.
"""

import dataclasses
import re
from collections.abc import Iterable, Mapping, Sequence

from serving.models_config import textproto
from serving.models_config.textproto import Field, Message, TextProtoError

_KNOWN = (
    "name", "base_path", "model_type", "model_platform", "model_version_policy", "version_labels", "logging_config",
    "logging_configs",
)  # fmt: skip


@dataclasses.dataclass(frozen=True, slots=True)
class Latest:
    """The newest versions on disk are served."""

    count: int = 1


@dataclasses.dataclass(frozen=True, slots=True)
class All:
    """Every version on disk is served."""


@dataclasses.dataclass(frozen=True, slots=True)
class Specific:
    """The named versions are served."""

    versions: tuple[int, ...]


@dataclasses.dataclass(frozen=True, slots=True)
class ModelConfig:
    """One model of the file: `labels` are versions by label, `line` is where its `config` begins, counted from 1."""

    name: str
    base_path: str
    platform: str
    policy: Latest | All | Specific
    labels: Mapping[str, int]
    line: int


def parse(text: str) -> tuple[ModelConfig, ...]:
    """The models of a `ModelServerConfig` in text form, in the order of the file.

    Raises:
        TextProtoError: Not a text proto, an unknown field, or a value of the wrong kind.
    """
    return tuple(_read(field, config) for field, config in _configs(textproto.parse(text)))


def edit(
    text: str,
    model: str,
    *,
    versions: Iterable[int] | None = None,
    labels: Mapping[str, int | None] | None = None,
) -> str:
    """The text with another set of versions or labels for one model, and nothing else changed.

    Args:
        text: The file's content.
        model: The model's name.
        versions: The versions to serve from now on; None leaves them. Makes the policy `specific`.
        labels: Labels to add or move, with their versions; None removes a label. Others stay.

    Raises:
        TextProtoError: The text can't be read, or has no such model.
        ValueError: No versions, a version below 1, or an empty label.
    """
    wanted = None if versions is None else tuple(dict.fromkeys(versions))
    moved = dict(labels or {})
    _check(wanted, moved)
    if wanted is not None:
        text = _set_versions(text, model, wanted)
    for label, version in moved.items():
        text = _set_label(text, model, label, version)
    after = _read(*_find(text, model))
    kept = isinstance(after.policy, Specific) and set(after.policy.versions) == set(wanted or after.policy.versions)
    if (wanted is not None and not kept) or any(after.labels.get(label) != value for label, value in moved.items()):
        raise TextProtoError(f"Expected the edit of model {model!r} to read back. Received: {after!r}")
    return text


def _check(versions: tuple[int, ...] | None, labels: Mapping[str, int | None]) -> None:
    if versions == ():
        raise ValueError("Expected at least one version. Received: none (an empty list unloads the model)")
    for version in [*(versions or ()), *(value for value in labels.values() if value is not None)]:
        if isinstance(version, bool) or not isinstance(version, int) or not 1 <= version < 2**63:
            raise ValueError(f"Expected a version to be an integer of at least 1. Received: {version!r}")
    for label in labels:
        if not re.fullmatch(r"[A-Za-z0-9_.\-]+", label):
            raise ValueError(f"Expected a label of letters, digits, '_', '-' and '.'. Received: {label!r}")


def _configs(root: Message) -> list[tuple[Field, Message]]:
    _expect_only(root, ("model_config_list",), "model_config_list")
    listed = root.message("model_config_list")
    if listed is None:
        return []
    _expect_only(listed[1], ("config",), "config in model_config_list")
    return listed[1].messages("config")


def _expect_only(message: Message, names: Sequence[str], expected: str) -> None:
    for field in message.fields:
        if field.name not in names:
            raise TextProtoError(f"Expected {expected}. Received: {field.name}", field.line)


def _find(text: str, model: str) -> tuple[Field, Message]:
    configs = _configs(textproto.parse(text))
    found = [(field, config) for field, config in configs if config.text("name") == model]
    if len(found) != 1:
        names = ", ".join(config.text("name") for _, config in configs) or "none"
        raise TextProtoError(f"Expected one model named {model!r}. Received: {len(found)} of it among {names}")
    return found[0]


def _read(field: Field, config: Message) -> ModelConfig:
    _expect_only(config, _KNOWN, "a field of ModelConfig")
    labels = {}
    for entry, content in config.messages("version_labels"):
        value = content.integer("value", 0)
        if value is None or not {inner.name for inner in content.fields} <= {"key", "value"}:
            raise TextProtoError("Expected version_labels { key: ... value: ... }", entry.line)
        labels[content.text("key")] = value
    name, base_path, platform = (config.text(each) for each in ("name", "base_path", "model_platform"))
    return ModelConfig(name, base_path, platform, _policy(config), labels, field.line)


def _policy(config: Message) -> Latest | All | Specific:
    found = config.message("model_version_policy")
    if found is None or not found[1].fields:
        return Latest()
    field, policy = found
    if len(policy.fields) != 1 or policy.fields[0].name not in ("latest", "all", "specific"):
        names = " and ".join(inner.name for inner in policy.fields)
        raise TextProtoError(f"Expected one of latest, all and specific. Received: {names}", field.line)
    (kind, content), *_ = policy.messages(policy.fields[0].name)
    allowed = {"latest": "num_versions", "specific": "versions"}.get(kind.name, "")
    _expect_only(content, (allowed,), f"{allowed or 'nothing'} in {kind.name}")
    if kind.name == "all":
        return All()
    if kind.name == "latest":
        return Latest(content.integer("num_versions") or 1)
    return Specific(tuple(textproto.integer(inner) for inner in content.all("versions")))


def _set_versions(text: str, model: str, wanted: tuple[int, ...]) -> str:
    _, config = _find(text, model)
    block = "specific { " + " ".join(f"versions: {version}" for version in wanted) + " }"
    found = config.message("model_version_policy")
    if found is None:
        return _insert(text, config, config.all("model_platform")[-1:], f"model_version_policy {{ {block} }}")
    specific = found[1].message("specific")
    present = specific[1].all("versions") if specific else []
    if specific is None or not present or any(field.listed for field in present):
        return f"{text[: found[1].start]} {block} {text[found[1].end :]}"
    seen = [textproto.integer(field) for field in present]
    for version in reversed(wanted):  # each goes right after the last existing one
        if version not in seen:
            text = _insert(text, specific[1], present[-1:], f"versions: {version}")
    for field, version in reversed([*zip(present, seen, strict=True)]):
        if version not in wanted:
            text = _remove(text, field)
    return text


def _set_label(text: str, model: str, label: str, version: int | None) -> str:
    _, config = _find(text, model)
    entries = [(field, content) for field, content in config.messages("version_labels") if content.text("key") == label]
    for field, _ in entries:
        if field.listed:
            raise TextProtoError("Expected a separate version_labels for each label, to edit it", field.line)
    if version is not None and not entries:
        after = config.all("version_labels")[-1:] or config.all("model_version_policy")[-1:]
        return _insert(text, config, after, f'version_labels {{ key: "{label}" value: {version} }}')
    if version is not None:  # protobuf takes the last, so that one stays, and is changed before the others are removed
        _, content = entries.pop()
        value = content.all("value")
        start, end = (value[0].value.start, value[0].value.end) if value else (content.end, content.end)
        text = f"{text[:start]}{version if value else f' value: {version} '}{text[end:]}"
    for field, _ in reversed(entries):
        text = _remove(text, field)
    return text


def _insert(text: str, inside: Message, after: list[Field], line: str) -> str:
    """Inserts `line` after the field `after`, or at the end of the message, laid out like its neighbours."""
    anchor = (after or list(inside.fields[-1:]))[-1:]
    if not anchor:
        return f"{text[: inside.start]} {line} {text[inside.start :].lstrip(' ')}"
    start, end = anchor[0].start, anchor[0].end
    begin_of_line = text.rfind("\n", 0, start) + 1
    indent = text[begin_of_line:start]
    if indent.strip():
        return f"{text[:end]} {line}{text[end:]}"
    end_of_line = text.find("\n", end)
    rest = text[end : end_of_line if end_of_line >= 0 else len(text)]
    if rest.strip() and not rest.strip().startswith("#"):
        return f"{text[:end]} {line}{text[end:]}"
    return f"{text[: end + len(rest)]}\n{indent}{line}{text[end + len(rest) :]}"


def _remove(text: str, field: Field) -> str:
    """Removes a field, and its line if nothing else is on it."""
    start, end = field.start, field.end
    begin_of_line = text.rfind("\n", 0, start) + 1
    end_of_line = text.find("\n", end)
    end_of_line = len(text) if end_of_line < 0 else end_of_line
    before, behind = text[begin_of_line:start], text[end:end_of_line]
    if not before.strip() and not behind.strip():
        return text[:begin_of_line] + text[end_of_line + 1 :]
    return text[:start] + text[end:].lstrip(" ") if not behind.strip().startswith("#") else text[:start] + text[end:]
