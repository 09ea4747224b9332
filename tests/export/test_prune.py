"""Old versions are removed, but never one that a models.config names, even if that changes meanwhile."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from export.cli import main
from export.errors import StoreError
from export.publish.prune import judge, named_versions
from export.publish.store import ModelStore

CONFIG = """
model_config_list {{
  config {{ name: "pets" base_path: "/models/pets" model_platform: "tensorflow"
    model_version_policy {{ {policy} }} {labels} }}
}}
"""


def config(policy: str = "specific { versions: 3 versions: 4 }", labels: str = "") -> str:
    return CONFIG.format(policy=policy, labels=labels)


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    for version in range(1, 8):
        (tmp_path / "store" / "pets" / str(version)).mkdir(parents=True)
        (tmp_path / "store" / "pets" / str(version) / "saved_model.pb").write_bytes(b"model")
    return ModelStore(tmp_path / "store", "pets")


def prune(store: ModelStore, tmp_path: Path, text: str, *options: str) -> int:
    (tmp_path / "models.config").write_text(text, encoding="latin-1")
    return main(
        [
            "prune",
            "--store",
            str(store.path.parent),
            "--name",
            "pets",
            "--config",
            str(tmp_path / "models.config"),
            *options,
        ]
    )


def test_versions_that_are_named_newer_or_among_the_newest_stay(store: ModelStore, tmp_path: Path) -> None:
    assert prune(store, tmp_path, config(), "--keep", "1") == 0
    assert store.versions() == [3, 4, 5, 6, 7]
    assert sorted(path.name for path in store.path.iterdir()) == [".lock", "3", "4", "5", "6", "7"]


@pytest.mark.parametrize(
    ("text", "named"),
    [
        (config("specific { versions: [2, 5] }"), {2, 5}),
        (config("latest { num_versions: 2 }"), {6, 7}),
        (config("latest {}"), {7}),
        (config("all {}"), {1, 2, 3, 4, 5, 6, 7}),
        (config("specific { versions: 2 }", 'version_labels { key: "old" value: 1 }'), {1, 2}),
    ],
)
def test_every_policy_and_label_protects(text: str, named: set[int]) -> None:
    assert named_versions([text.encode()], "pets", range(1, 8)) == named


def test_a_dry_run_reports_and_removes_nothing(
    store: ModelStore, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert prune(store, tmp_path, config(), "--dry-run", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert [record["version"] for record in told["versions"] if record["remove"]] == [1, 2]
    assert told["removed"] == []
    assert store.versions() == [1, 2, 3, 4, 5, 6, 7]


@pytest.mark.parametrize(
    ("text", "options"),
    [
        (config(), ["--version", "4"]),
        (config(), ["--version", "99"]),
        (config().replace("pets", "cats"), []),
        ("model_config_list {", []),
        ("\xff" + config(), []),
    ],
    ids=["named", "not there", "another model's config", "broken config", "not UTF-8"],
)
def test_a_refused_prune_removes_nothing(store: ModelStore, tmp_path: Path, text: str, options: list[str]) -> None:
    assert prune(store, tmp_path, text, *options) == 1
    assert store.versions() == [1, 2, 3, 4, 5, 6, 7]


def test_a_version_that_is_named_during_the_removal_comes_back(store: ModelStore) -> None:
    assert store.remove(1, lambda version: version not in {1}) is False
    assert (store.path / "1" / "saved_model.pb").read_bytes() == b"model"


def test_a_removal_that_is_interrupted_before_the_decision_is_undone(store: ModelStore) -> None:
    def killed(version: int) -> bool:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.remove(1, killed)
    assert 1 in store.versions()
    (store.path / "2").rename(store.path / ".leaving-2")  # as SIGKILL leaves it
    (store.path / "3").rename(store.path / ".removed-3")
    assert store.remove(1) is True
    assert store.versions() == [2, 4, 5, 6, 7]
    assert not list(store.path.glob(".*-*"))


def test_the_version_asked_for_goes_however_new(store: ModelStore) -> None:
    verdicts = judge(store.versions(), {3}, keep=3, only=[7])
    assert [verdict.version for verdict in verdicts if verdict.remove] == [7]
    with pytest.raises(StoreError, match="3 is named"):
        judge(store.versions(), {3}, keep=3, only=[3])
