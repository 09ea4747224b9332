"""The edits of models.config, without a server: what each changes, and what it refuses."""

from __future__ import annotations

import pytest
from google.protobuf import text_format
from hypothesis import given
from hypothesis import strategies as st
from tensorflow_serving.config import model_server_config_pb2

from serving.models_config import modelfile
from serving.rollout.edits import Edit, State, difference, read_state
from serving.rollout.errors import Refused
from serving.rollout.settings import Labels

TEXT = """\
# the head
model_config_list {
  config { name: "other" base_path: "/models/other" model_platform: "tensorflow" }  # a neighbour
  config {
    name: "pets"
    base_path: "/models/pets"
    model_platform: "tensorflow"
    model_version_policy {
      specific {
        versions: 7  # since May
      }
    }
    version_labels { key: "stable" value: 7 }
    version_labels { key: "partner" value: 7 }  # do not touch
  }
}
"""


def state(versions: tuple[int, ...] | None = (7,), **labels: int) -> State:
    return State(versions, labels or {"stable": 7}, Labels())


def parsed(text: str) -> tuple[list[int], dict[str, int]]:
    """What the stock server would read."""
    config = text_format.Parse(text, model_server_config_pb2.ModelServerConfig()).model_config_list.config
    pets = next(model for model in config if model.name == "pets")
    return list(pets.model_version_policy.specific.versions), dict(pets.version_labels)


def test_a_whole_rollout_is_read_by_protobuf_and_keeps_every_comment() -> None:
    text = TEXT
    seen = []
    for make in (
        lambda now: now.load(8, 2),
        lambda now: now.move_canary(8),
        lambda now: now.move_stable(8),
        lambda now: now.withdraw(8),
    ):
        text = make(read_state(text, "pets", Labels())).apply(text, "pets")
        seen.append(parsed(text))
        assert all(comment in text for comment in ("# the head", "# a neighbour", "# since May", "# do not touch"))
        assert (
            text_format.Parse(text, model_server_config_pb2.ModelServerConfig()).model_config_list.config[0].name
            == "other"
        )
    partner = {"partner": 7}
    assert seen == [
        ([7, 8], {"stable": 7, **partner}),
        ([7, 8], {"stable": 7, "canary": 8, **partner}),
        ([7, 8], {"stable": 8, "canary": 8, "previous": 7, **partner}),
        ([7], {"stable": 7, "canary": 7, "previous": 7, **partner}),
    ]


def test_an_edit_is_not_made_twice() -> None:
    done = state((7, 8), stable=8, canary=8, previous=7)
    assert done.load(8, 2) is None
    assert done.move_canary(8) is None
    assert done.move_stable(8) is None
    assert done.retire(6) is None
    assert state().withdraw(8) is None


def test_the_version_before_the_last_is_unnamed_to_make_room() -> None:
    edit = state((7, 8), stable=8, canary=8, previous=7).load(9, 2)
    assert edit == Edit("load", (8, 9), {"previous": 8})
    assert state((7, 8), stable=8, canary=8, previous=7).load(9, 3) == Edit("load", (7, 8, 9), {})


def test_a_version_that_another_label_uses_stays_named() -> None:
    with pytest.raises(Refused, match="no-room"):
        state((6, 7), stable=7, partner=6).load(8, 2)


def test_a_rolled_back_version_stays_named_for_another_label() -> None:
    edit = state((7, 8), stable=8, canary=8, previous=7, partner=8).withdraw(8)
    assert edit == Edit("withdraw", None, {"stable": 7, "canary": 7})


def test_an_unnamed_version_is_named_again_while_there_is_room() -> None:
    now = state((8,), stable=8, canary=8, previous=8)
    assert now.restore((7,), 2) == Edit("restore", (7, 8))
    assert now.restore((8,), 2) is None
    assert state((8, 9), stable=8).restore((7,), 2) is None
    assert now.move_previous(7) is None  # it is not named yet
    assert state((7, 8), stable=8, previous=8).move_previous(7) == Edit("previous", None, {"previous": 7})


def test_a_rollback_without_a_previous_version_is_refused() -> None:
    with pytest.raises(Refused, match="no-previous"):
        state((7,), stable=7).withdraw(7)


@pytest.mark.parametrize(
    ("now", "candidate"),
    [
        (state((7,), stable=7), None),
        (state((7, 8), stable=7), 8),
        (state((7, 8), stable=7, canary=8), 8),
        (state((6, 7), stable=7, canary=7, previous=6), None),
        (state((6, 7), stable=7, canary=6), 6),
    ],
)
def test_the_version_that_is_rolled_out_is_read_from_the_file(now: State, candidate: int | None) -> None:
    assert now.candidate == candidate


@pytest.mark.parametrize("label", ["stable", "canary", "partner"])
def test_a_version_that_a_label_uses_is_not_retired(label: str) -> None:
    with pytest.raises(Refused, match=f"label-in-use.*{label}"):
        state((7, 8), **{"stable": 8, "canary": 8, "partner": 8, label: 7}).retire(7)


def test_retiring_drops_what_only_a_rollback_used() -> None:
    assert state((7, 8), stable=8, canary=8, previous=7).retire(7) == Edit("retire", (8,), {"previous": None})


def test_the_difference_is_a_unified_diff() -> None:
    after = Edit("canary", None, {"canary": 7}).apply(TEXT, "pets")
    added = [line for line in difference(TEXT, after, "models.config").splitlines() if line.startswith("+ ")]
    assert added == ['+    version_labels { key: "canary" value: 7 }']


versions = st.integers(1, 2**63 - 1)
names = st.text("abcXYZ019_-.", min_size=1, max_size=12)
spaces = st.sampled_from(["", " ", "\n", "\n\n", "  # said {so}\n", "\t"])


@st.composite
def files(draw: st.DrawFn) -> str:
    """A file for `pets` in one of the many layouts that a text proto may have."""
    sep = draw(st.sampled_from([" ", "\n", "\n    ", '  # why "not"\n', ", ", "; "]))
    listed = draw(st.booleans())
    numbers = draw(st.lists(versions, min_size=1, max_size=4, unique=True))
    labels = draw(st.dictionaries(names, st.sampled_from(numbers), max_size=3))
    if listed:
        inner = f"versions: [{', '.join(map(str, numbers))}]"
    else:
        inner = sep.join(f"versions: {number}" for number in numbers)
    brackets = draw(st.sampled_from(["{}", "<>"]))
    policy = f"model_version_policy: {brackets[0]} specific {{ {inner} }} {brackets[1]}"
    entries = [f'version_labels {{ key: "{label}" value: {number} }}' for label, number in labels.items()]
    fields = ["name: 'pets'", 'base_path: "/models" "/pets"', 'model_platform: "tensorflow"', policy, *entries]
    fields = draw(st.permutations(fields))
    gap = draw(spaces)
    return f"{gap}model_config_list {{{gap} config {{ {sep.join(fields)} }} {gap}}}\n"


@given(files(), st.lists(versions, min_size=1, max_size=3, unique=True), st.dictionaries(names, versions, max_size=3))
def test_protobuf_reads_any_edit_of_any_layout_as_intended(
    text: str, wanted: list[int], labels: dict[str, int]
) -> None:
    _, before = parsed(text)
    edited = modelfile.edit(text, "pets", versions=wanted, labels=labels)
    numbers, after = parsed(edited)
    assert set(numbers) == set(wanted)
    assert after == {**before, **labels}
    comments = [line for line in text.splitlines() if "#" in line]
    assert all(line.partition("#")[2] in edited for line in comments)


@given(files(), names)
def test_removing_a_label_leaves_the_others(text: str, label: str) -> None:
    _, before = parsed(text)
    _, after = parsed(modelfile.edit(text, "pets", labels={label: None}))
    assert after == {name: number for name, number in before.items() if name != label}
