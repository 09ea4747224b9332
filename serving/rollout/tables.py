"""Status and history, for people and for scripts."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from duoserve.console import aligned
from serving.rollout.edits import State
from serving.rollout.replicas.fleet import ReplicaView
from serving.rollout.replicas.sync import Difference


def status_json(state: State, views: Sequence[ReplicaView], found: Sequence[Difference]) -> dict[str, Any]:
    """The status as JSON values."""
    return {
        "config": {"versions": state.versions, "labels": dict(state.labels)},
        "replicas": [
            {
                "address": view.address,
                "up": view.up,
                "error": view.error,
                "versions": {str(number): status.state for number, status in view.versions.items()},
                "errors": {str(number): status.error for number, status in view.versions.items() if status.error},
                "labels": dict(view.labels),
            }
            for view in views
        ],
        "out_of_sync": [{"replica": one.address, "what": one.what} for one in found],
    }


def status_lines(state: State, views: Sequence[ReplicaView], found: Sequence[Difference]) -> list[str]:
    """The status as lines: the file, a table of the replicas, and the differences."""
    named = state.versions or ()
    versions = sorted({number for view in views for number in view.versions} | set(named))
    answered = [label for view in views for label, version in view.labels.items() if version]
    labels = list(dict.fromkeys([*state.labels, *answered]))
    rows = [["REPLICA", *map(str, versions), *(label.upper() for label in labels)]]
    of_file = ["named" if number in named else "-" for number in versions]
    rows.append(["models.config", *of_file, *(_number(state.labels.get(label)) for label in labels)])
    for view in views:
        states = (view.versions.get(number) for number in versions)
        cells = [status.state if status else "-" for status in states]
        cells += [_number(view.labels.get(label)) for label in labels]
        rows.append([view.address, *(cells if view.up else ["?"] * len(cells))])
    lines = [aligned(rows), ""]
    if not found:
        lines.append(f"{len(views)} replicas, in sync" if views else "out of sync: no replicas found")
    return lines + [f"out of sync: {one}" for one in found]


def history_lines(records: Iterable[Mapping[str, Any]]) -> list[str]:
    """One line for each entry, with findings below it."""
    lines = []
    for record in records:
        facts = [str(record.get("event", "?"))]
        if record.get("step"):
            facts.append(str(record["step"]))
        figures = record.get("figures")
        if isinstance(figures, Mapping):
            answers = figures.get("comparison", {})
            facts.append(
                f"{figures.get('step')} against {figures.get('against')}: {len(figures.get('replicas', ()))} replicas"
            )
            facts.append(f"agreement {answers.get('agreement')}, drift {answers.get('drift')}")
            if answers.get("labelled"):
                facts.append(f"{answers.get('measure')} {answers.get('old_quality')} -> {answers.get('new_quality')}")
            measured = [one["latency"] for one in figures.get("replicas", ()) if one.get("latency")]
            for name in ("median", "p99") if measured else ():
                old, new = (max(one[f"{side}_{name}"] for one in measured) for side in ("old", "new"))
                facts.append(f"{name} {old:g} -> {new:g} ms")
        if record.get("seconds") is not None:
            facts.append(f"{record['seconds']} s")
        if "undone" in record:
            facts.append("rolled back" if record["undone"] else "NOT rolled back")
        what = f"{record.get('command', '?')} {record.get('version') or ''}".strip()
        lines.append(f"{str(record.get('time', '?'))[:19]}  {record.get('who', '?')}  {what}: {', '.join(facts)}")
        findings = record.get("findings") or (figures or {}).get("findings") or ()
        lines += [f"    {finding}" for finding in findings]
    return lines or ["no entries"]


def _number(version: int | None) -> str:
    return "-" if version is None else str(version)
