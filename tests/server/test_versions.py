"""The version manager keeps a model available, and calls end on the version they began on."""

from __future__ import annotations

import pathlib
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from google.protobuf import text_format
from tensorflow_serving.config import model_server_config_pb2 as config_pb2

from serving.local.errors import Code, ServingError, invalid_argument
from serving.local.versions.manager import Manager, Retry
from serving.local.versions.source import choose, versions_on_disk
from serving.local.versions.states import Change, ServableId, State, StateMonitor
from tests.client.fake import wait_until

PATH = pathlib.Path("/nowhere")


class Fake:
    """A servable that remembers being closed."""

    def __init__(self, servable_id: ServableId) -> None:
        self.id = servable_id
        self.closed = threading.Event()

    def close(self) -> None:
        self.closed.set()


class World:
    """A manager over fakes; `bad` versions fail to load, `gates` block the load of others."""

    def __init__(self, retry: Retry) -> None:
        self.bad: set[int] = set()
        self.tries: list[int] = []
        self.gates: dict[int, threading.Event] = {}
        self.states = StateMonitor()
        self.manager: Manager[Fake] = Manager(self._load, self.states, retry=retry)
        self.manager.end_of_first_load()

    def _load(self, servable_id: ServableId, _: pathlib.Path) -> Fake:
        self.tries.append(servable_id.version)
        if servable_id.version in self.gates:
            assert self.gates[servable_id.version].wait(10)
        if servable_id.version in self.bad:
            raise invalid_argument("bad version")
        return Fake(servable_id)

    def aspire(self, *versions: int) -> None:
        self.manager.aspire("m", dict.fromkeys(versions, PATH))

    def state(self, version: int) -> State | None:
        status = self.states.versions("m").get(version)
        return status and status.state

    def serving(self) -> list[int]:
        versions = self.states.versions("m").items()
        return sorted(version for version, status in versions if status.state is State.AVAILABLE)

    def until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 10
        while not condition():
            assert time.monotonic() < deadline
            time.sleep(0.01)

    def until_state(self, version: int, state: State) -> None:
        self.until(lambda: self.state(version) is state)

    def answers(self, version: int | None = None) -> int:
        with self.manager.hold("m", version) as (servable_id, _):
            return servable_id.version


@pytest.fixture
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    made = World(getattr(request, "param", Retry(times=0)))
    yield made
    for gate in made.gates.values():
        gate.set()
    made.manager.stop(5)


def test_the_new_version_serves_before_the_old_one_goes(world: World) -> None:
    world.aspire(1)
    world.until_state(1, State.AVAILABLE)
    world.gates[2] = threading.Event()
    world.aspire(2)
    world.until_state(2, State.LOADING)
    assert world.answers() == 1
    world.gates[2].set()
    world.until_state(1, State.END)
    assert world.answers() == 2


def test_a_replaced_version_is_never_available_beside_the_new_one(world: World) -> None:
    seen: list[dict[int, State]] = []

    publish = world.states.publish

    def watched(*changes: Change) -> None:
        publish(*changes)
        seen.append({version: status.state for version, status in world.states.versions("m").items()})

    world.states.publish = watched
    for versions in ([1], [2], [3], [2]):
        world.aspire(*versions)
        world.until_state(versions[0], State.AVAILABLE)
    world.until_state(3, State.END)
    assert max(list(states.values()).count(State.AVAILABLE) for states in seen) == 1
    assert {2: State.AVAILABLE, 1: State.END} in seen


def test_a_version_that_fails_leaves_the_old_one_serving(world: World) -> None:
    world.aspire(1)
    world.until_state(1, State.AVAILABLE)
    world.bad.add(2)
    world.aspire(2)
    world.until_state(2, State.END)
    status = world.states.versions("m")[2]
    assert status.error and status.error.code is Code.INVALID_ARGUMENT
    time.sleep(0.3)
    assert world.answers() == 1


def test_a_call_keeps_its_version_in_memory_until_it_ends(world: World) -> None:
    world.aspire(1)
    world.until_state(1, State.AVAILABLE)
    with world.manager.hold("m", 1) as (_, servable):
        world.aspire(2)
        world.until_state(1, State.UNLOADING)
        assert world.answers() == 2
        assert not servable.closed.wait(0.3)
    assert servable.closed.wait(5)
    world.until_state(1, State.END)


def test_a_version_that_is_unloading_takes_no_new_calls(world: World) -> None:
    world.aspire(1)
    world.until_state(1, State.AVAILABLE)
    with world.manager.hold("m", 1):
        world.aspire(2)
        world.until_state(1, State.UNLOADING)
        with pytest.raises(ServingError, match=r"Servable not found for request: Specific\(m, 1\)"):
            world.answers(1)


def test_no_versions_aspired_unloads_all(world: World) -> None:
    world.aspire(1, 2)
    world.until_state(2, State.AVAILABLE)
    world.until_state(1, State.AVAILABLE)
    world.aspire()
    world.until(lambda: world.state(1) is State.END and world.state(2) is State.END)
    with pytest.raises(ServingError, match=r"Latest\(m\)"):
        world.answers()


@pytest.mark.parametrize("world", [Retry(times=2, seconds=0.01)], indirect=True)
def test_a_failed_load_is_retried_as_often_as_configured(world: World) -> None:
    world.bad.add(1)
    world.aspire(1)
    world.until_state(1, State.END)
    assert world.tries == [1, 1, 1]


@pytest.mark.parametrize("world", [Retry(times=5, seconds=60)], indirect=True)
def test_a_version_that_is_no_longer_aspired_is_not_retried(world: World) -> None:
    world.bad.add(1)
    world.aspire(1)
    world.until(lambda: world.tries == [1])
    world.aspire(2)
    world.until_state(2, State.AVAILABLE)
    world.until_state(1, State.END)
    assert world.tries == [1, 2]


def test_a_version_that_comes_back_is_loaded_again(world: World) -> None:
    for versions in ([1], [1, 2], [2], [1, 2], [1]):
        world.aspire(*versions)
        world.until(lambda versions=versions: world.serving() == versions)
    assert world.tries == [1, 2, 1]


def test_the_newest_version_loads_first(world: World) -> None:
    world.aspire(1, 3, 2)
    world.until(lambda: len(world.serving()) == 3)
    assert world.tries == [3, 2, 1]


def test_a_stop_during_the_first_load_begins_no_other() -> None:
    gate, tries, states = threading.Event(), list[str](), StateMonitor()

    def load(servable_id: ServableId, _: pathlib.Path) -> Fake:
        tries.append(servable_id.name)
        assert gate.wait(10)
        return Fake(servable_id)

    manager: Manager[Fake] = Manager(load, states, initial_load_threads=1, retry=Retry(times=0))
    for name in "abc":
        manager.aspire(name, {1: PATH})
    wait_until(lambda: tries and all(map(states.versions, "abc")))
    loaders = [thread for thread in threading.enumerate() if thread.name.startswith("first-load")]
    manager.end_of_first_load()
    manager.stop(1)
    gate.set()
    for thread in loaders:
        thread.join(10)
    assert len(tries) == 1


def model(base_path: pathlib.Path, policy: str = "") -> config_pb2.ModelConfig:
    text = f'name: "m" base_path: "{base_path}" model_version_policy {{ {policy} }}'
    return text_format.Parse(text, config_pb2.ModelConfig())


def test_only_folders_that_are_numbers_are_versions(tmp_path: pathlib.Path) -> None:
    for name in ("1", "00000123", "v2", ".tmp-3", "0.1", "4x", "-5", "9" * 30):
        (tmp_path / name).mkdir()
    found = versions_on_disk(model(tmp_path))
    assert {number: path.name for number, path in found.items()} == {1: "1", 123: "00000123"}


@pytest.mark.parametrize(
    ("policy", "chosen"),
    [
        ("", [3]),
        ("latest { }", [3]),
        ("latest { num_versions: 2 }", [2, 3]),
        ("all { }", [1, 2, 3]),
        ("specific { versions: 1 versions: 9 }", [1]),
    ],
)
def test_the_version_policy_chooses(tmp_path: pathlib.Path, policy: str, chosen: list[int]) -> None:
    for number in (1, 2, 3):
        (tmp_path / str(number)).mkdir()
    assert sorted(choose(model(tmp_path, policy))) == chosen


def test_a_base_path_that_is_gone_is_an_error_and_not_an_empty_one(tmp_path: pathlib.Path) -> None:
    with pytest.raises(ServingError, match=r"Could not find base path .* for servable m"):
        versions_on_disk(model(tmp_path / "gone"))
