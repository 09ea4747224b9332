"""Editing models.config: the real proto reads the intended edit, and everything else is unchanged."""

from __future__ import annotations

import difflib

import pytest
from google.protobuf import text_format
from hypothesis import given, settings
from hypothesis import strategies as st
from tensorflow_serving.config import model_server_config_pb2

from serving.models_config import modelfile, textproto
from serving.models_config.modelfile import All, Latest, Specific, edit, parse
from serving.models_config.textproto import TextProtoError
from tests.k8s.tools import ROOT

OURS = (ROOT / "serving/config/models.config").read_text()

TWO = """\
# Both models, on call: Kim.
model_config_list: {
  config {
    name: "emoji"  # the main one
    base_path: '/models/' "emoji"
    model_platform: "tensorflow"
    model_version_policy { specific { versions: 6 versions: 7 } }
    version_labels { key: "stable" value: 7 }  # since Tuesday
    version_labels < key: 'canary', value: 6 >;
  }
  # A comment between.
  config: {
    name: "other", base_path: "/models/other"; model_platform: "tensorflow"
    model_version_policy: { all {} }
  }
}
"""


def by_the_real_proto(text: str) -> dict[str, tuple[list[int], dict[str, int]]]:
    config = text_format.Parse(text, model_server_config_pb2.ModelServerConfig())
    return {
        model.name: (list(model.model_version_policy.specific.versions), dict(model.version_labels))
        for model in config.model_config_list.config
    }


def changed(before: str, after: str) -> list[str]:
    return [line for line in difflib.ndiff(before.splitlines(), after.splitlines()) if line[0] in "+-"]


def test_names_policies_and_labels_are_read() -> None:
    emoji, other = parse(TWO)
    assert (emoji.name, emoji.base_path, emoji.platform, emoji.line) == ("emoji", "/models/emoji", "tensorflow", 3)
    assert emoji.policy == Specific((6, 7)) and emoji.labels == {"stable": 7, "canary": 6}
    assert other.policy == All() and other.labels == {}
    assert parse("model_config_list { config { name: 'm' } }")[0].policy == Latest(1)
    assert parse("# nothing yet") == ()


def test_moving_a_label_changes_one_number() -> None:
    after = edit(TWO, "emoji", labels={"canary": 7})
    assert by_the_real_proto(after)["emoji"] == ([6, 7], {"stable": 7, "canary": 7})
    assert after == TWO.replace("value: 6 >", "value: 7 >")


def test_adding_a_version_adds_one_line() -> None:
    after = edit(OURS, "emoji", versions=[1, 2])
    assert changed(OURS, after) == ["+         versions: 2"]
    assert edit(after, "emoji", versions=[1]) == OURS
    assert changed(after, edit(after, "emoji", versions=[2])) == ["-         versions: 1"]


def test_a_label_is_added_and_removed() -> None:
    after = edit(OURS, "emoji", labels={"canary": 1})
    assert changed(OURS, after) == ['+     version_labels { key: "canary" value: 1 }']
    assert edit(after, "emoji", labels={"canary": None}) == OURS


def test_a_comment_behind_a_value_stays() -> None:
    after = edit(TWO, "emoji", versions=[7], labels={"stable": 7, "canary": None})
    assert "# since Tuesday" in after and "# the main one" in after and "# A comment between." in after
    assert by_the_real_proto(after) == {"emoji": ([7], {"stable": 7}), "other": ([], {})}


def test_other_policies_become_named_versions() -> None:
    for policy in ("model_version_policy { all {} }", "model_version_policy { latest { num_versions: 2 } }", "",
                   "model_version_policy { specific { versions: [1, 2] } }"):  # fmt: skip
        text = f'model_config_list {{ config {{ name: "m" base_path: "/m" {policy} }} }}'
        assert by_the_real_proto(edit(text, "m", versions=[3, 4], labels={"stable": 3})) == {
            "m": ([3, 4], {"stable": 3})
        }


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("model_config_list {", "closing brace for line 1"),
        ("model_config_list { config { name: 5 } }", "name to be a string"),
        ('model_config_list { config { nam: "m" } }', "a field of ModelConfig. Received: nam"),
        ("custom_model_config {}", "Expected model_config_list"),
        ("a: @", "Expected a text proto"),
        ("model_config_list { config { version_labels { key: 'a' value: 'b' } } }", "value to be an integer"),
        ("model_config_list {} model_config_list {}", "model_config_list once"),
        ("a { " * 200, "at most 100 nested braces"),
        (
            "model_config_list { config { model_version_policy { all {} latest {} } } }",
            "one of latest, all and specific",
        ),
    ],
)
def test_an_error_has_its_line(text: str, says: str) -> None:
    with pytest.raises(TextProtoError, match=says) as error:
        parse(text)
    assert error.value.line >= 1


def test_invalid_edits_are_refused() -> None:
    for arguments in (
        {"versions": []},
        {"versions": [0]},
        {"labels": {"": 1}},
        {"labels": {"a b": 1}},
        {"labels": {"a": 0}},
    ):
        with pytest.raises(ValueError, match="Expected"):
            edit(OURS, "emoji", **arguments)  # type: ignore[arg-type]
    with pytest.raises(TextProtoError, match="one model named 'emojis'"):
        edit(OURS, "emojis", versions=[1])


VERSIONS = st.lists(st.integers(1, 40), min_size=1, max_size=4, unique=True)
LABELS = st.dictionaries(st.sampled_from(["stable", "canary", "old"]), st.integers(1, 40) | st.none(), max_size=3)
LAYOUTS = [
    OURS,
    TWO,
    (
        'model_config_list{config{name:"emoji" model_version_policy{specific{versions:1}}'
        'version_labels{key:"stable" value:1}}}'
    ),
    'model_config_list {\n config {\n  name: "emoji"\n }\n}\n',
    'model_config_list { config { model_version_policy { specific { versions: [3, 4] } } name: "emoji" } }\r\n',
]


@settings(deadline=None)
@given(layout=st.sampled_from(LAYOUTS), steps=st.lists(st.tuples(VERSIONS, LABELS), min_size=1, max_size=4))
def test_protobuf_reads_any_edits_as_intended(
    layout: str, steps: list[tuple[list[int], dict[str, int | None]]]
) -> None:
    text, labels = layout, dict(next(model for model in parse(layout) if model.name == "emoji").labels)
    for versions, moved in steps:
        text = edit(text, "emoji", versions=versions, labels=moved)
        labels |= {label: value for label, value in moved.items() if value is not None}
        labels = {label: value for label, value in labels.items() if moved.get(label, 0) is not None}
        found = by_the_real_proto(text)
        assert set(found["emoji"][0]) == set(versions) and found["emoji"][1] == labels
        assert {model.name: (model.policy, model.labels) for model in parse(text)}["emoji"][1] == labels
        if "other" in found:
            assert found["other"] == ([], {})
    comments = [line.partition("#")[2] for line in layout.splitlines() if "#" in line]
    assert [line.partition("#")[2] for line in text.splitlines() if "#" in line] == comments


@settings(deadline=None)
@given(st.text(alphabet=st.sampled_from(list("ab_1.-+:{}<>[],;\"'\\#\n x")), max_size=40))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        textproto.parse(text)
    except TextProtoError:
        return


@settings(deadline=None)
@given(st.text(max_size=20))
def test_strings_are_read_as_by_protobuf(value: str) -> None:
    config = model_server_config_pb2.ModelServerConfig()
    config.model_config_list.config.add(name=value)
    for as_utf8 in (True, False):
        text = text_format.MessageToString(config, as_utf8=as_utf8)
        assert modelfile.parse(text)[0].name == value
