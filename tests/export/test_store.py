"""Nothing already published is ever damaged, and nothing half-written is ever published."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest

from export.errors import StoreError
from export.publish.store import ModelStore


def publish(store: ModelStore, content: str = "model", version: int | None = None) -> int:
    with store.writing(version) as staging:
        (staging.path / "saved_model.pb").write_text(content)
        staging.publish()
        return staging.version


def names(store: ModelStore) -> set[str]:
    return {path.name for path in store.path.iterdir()} - {".lock"}


def test_versions_count_up_from_one(tmp_path: Path) -> None:
    store = ModelStore(tmp_path, "pets")
    assert [publish(store), publish(store), publish(store, version=9), publish(store)] == [1, 2, 9, 10]
    assert store.versions() == [1, 2, 9, 10]
    assert names(store) == {"1", "2", "9", "10"}


def test_an_existing_version_is_refused_and_untouched(tmp_path: Path) -> None:
    store = ModelStore(tmp_path, "pets")
    publish(store, "first")
    with pytest.raises(StoreError, match=r"Expected a free version number of pets\. Received: 1, which exists.*2"):
        publish(store, "second", version=1)
    assert (store.path_of(1) / "saved_model.pb").read_text() == "first"


def test_a_server_never_sees_a_version_that_is_being_written(tmp_path: Path) -> None:
    store = ModelStore(tmp_path, "pets")
    with store.writing() as staging:
        assert store.versions() == []
        assert staging.path.name.startswith("."), "TensorFlow Serving only reads names that are numbers"
        assert not any(path.name.isdigit() for path in store.path.iterdir())


def test_parallel_exports_get_different_versions(tmp_path: Path) -> None:
    store, barrier, taken = ModelStore(tmp_path, "pets"), threading.Barrier(8), []

    def export() -> None:
        barrier.wait()
        taken.append(publish(store))

    threads = [threading.Thread(target=export) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken) == list(range(1, 9))
    assert names(store) == {str(number) for number in range(1, 9)}


def test_an_export_that_fails_leaves_nothing(tmp_path: Path) -> None:
    store = ModelStore(tmp_path, "pets")
    publish(store)
    with pytest.raises(RuntimeError, match="gate"), store.writing() as staging:
        (staging.path / "saved_model.pb").write_text("half")
        raise RuntimeError("gate")
    assert names(store) == {"1"}
    assert publish(store) == 2


def test_remains_of_a_killed_export_are_removed_and_its_number_is_free(tmp_path: Path) -> None:
    program = """
        import sys, time
        from export.publish.store import ModelStore
        with ModelStore(sys.argv[1], "pets").writing() as staging:
            (staging.path / "saved_model.pb").write_text("half")
            print(staging.path, flush=True)
            time.sleep(60)
    """
    child = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program), str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    left = Path(child.stdout.readline().strip())
    store = ModelStore(tmp_path, "pets")
    assert publish(store) == 2, "a living export keeps its number"
    child.send_signal(signal.SIGKILL)
    child.wait()
    child.stdout.close()
    assert (left / "saved_model.pb").exists()
    assert publish(store, version=1) == 1
    assert names(store) == {"1", "2"}


@pytest.mark.parametrize("bad", ["", ".hidden", "a/b"])
def test_an_invalid_folder_name_is_refused(tmp_path: Path, bad: str) -> None:
    with pytest.raises(StoreError, match="Expected a model name"):
        ModelStore(tmp_path, bad)


@pytest.mark.parametrize("bad", [0, -1, 2**63])
def test_a_version_that_no_server_reads_is_refused(tmp_path: Path, bad: int) -> None:
    with pytest.raises(StoreError, match=r"Expected a version from 1 to"):
        publish(ModelStore(tmp_path, "pets"), version=bad)


def test_a_file_in_the_place_of_the_store_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"file/pets to take a new version\. Received"):
        publish(ModelStore(tmp_path / "file", "pets"))


def run(program: str, store: Path) -> str:
    """The output of a separate process that works on `store`."""
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), str(store)], capture_output=True, text=True, check=True
    ).stdout


def test_a_read_only_store_is_reported_and_unchanged(tmp_path: Path) -> None:
    store = ModelStore(tmp_path, "pets")
    publish(store)
    store.path.chmod(0o555)
    for folder in (tmp_path, *tmp_path.parents[:3]):
        folder.chmod(0o755)  # pytest keeps them from others
    said = run(
        """
        import os, sys
        from export.errors import StoreError
        from export.publish.store import ModelStore
        if os.geteuid() == 0:  # root may write anywhere
            os.seteuid(65534)
        try:
            with ModelStore(sys.argv[1], "pets").writing():
                print("written")
        except StoreError as error:
            print(error)
        """,
        tmp_path,
    )
    store.path.chmod(0o755)
    assert "no permission to write" in said
    assert names(store) == {"1"}


def test_a_full_disk_is_reported_and_leaves_the_store_unchanged(tmp_path: Path) -> None:
    """A file size limit stands in for the full disk: the same failing write, without a disk to fill."""
    said = run(
        """
        import resource, signal, sys
        from export.errors import StoreError
        from export.publish.store import ModelStore
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        try:
            with ModelStore(sys.argv[1], "pets").writing() as staging:
                (staging.path / "saved_model.pb").write_bytes(bytes(10_000))
                staging.publish()
        except StoreError as error:
            print(error)
        """,
        tmp_path,
    )
    assert "Published versions are unchanged" in said
    assert not (tmp_path / "pets").exists()


def test_a_refused_export_leaves_a_folder_only_where_it_found_one(tmp_path: Path) -> None:
    new, found = ModelStore(tmp_path, "new"), ModelStore(tmp_path, "found")
    found.path.mkdir()
    for store in (new, found):
        store.check_target()
        with pytest.raises(StoreError):
            publish(store, version=0)
    assert (new.path.exists(), names(found)) == (False, set())


def test_refused_exports_disturb_no_other(tmp_path: Path) -> None:
    store, barrier, taken = ModelStore(tmp_path, "pets"), threading.Barrier(8), []

    def export(is_refused: bool) -> None:
        barrier.wait()
        for _ in range(20):
            store.check_target()
        if not is_refused:
            taken.append(publish(store))

    threads = [threading.Thread(target=export, args=(number % 2 == 0,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(taken) == len(set(taken)) == 4
    assert names(store) == set(map(str, taken))
