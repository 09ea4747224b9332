"""Real replicas: embedded servers that poll one models.config, and come back when they die, as pods do."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from serving.local.testing import LocalServer, free_port
from serving.models_config import modelfile
from serving.rollout import Limits, Rollout, Settings, Waits
from tests.rollout import models
from tests.stock import StockServer

CONFIG = """\
# Kept by hand. This line stays.
model_config_list {{
  config {{
    name: "pets"  # what clients ask for
    base_path: "{store}/pets"
    model_platform: "tensorflow"
    model_version_policy {{ specific {{ versions: 1 }} }}
    version_labels {{ key: "stable" value: 1 }}
  }}
}}
"""
FLAGS = (
    "--file_system_poll_wait_seconds=1",
    "--model_config_file_poll_wait_seconds=1",
    "--max_num_load_retries=0",
    "--allow_version_labels_for_unavailable_models=true",
    "--tensorflow_intra_op_parallelism=1",
    "--tensorflow_inter_op_parallelism=1",
)

STOCK = "stock"
"""In place of a fault: the stock server in its container."""

# Shared machines are noisy: these limits tell a slow version from a slow moment.
LIMITS = Limits(latency_calls=10, median_ratio=3.0, p99_ratio=10.0, slack_ms=20.0)
WAITS = Waits(step=120, missing=60, poll=0.2, call=20, bake=1, watch=1)
START = 240  # seconds; a busy machine starts several servers at once


class Replica:
    """A server that is started again when it ends, at the same address, as a kubelet does."""

    def __init__(self, config: Path, store: Path, fault: str | None) -> None:
        self._flags = (f"--model_config_file={config}", f"--port={free_port()}", *FLAGS)
        self._folders = (config.parent, store)
        self._fault = fault
        self._ended = threading.Event()
        self.starts = 0
        self.server = self._start()
        self._keeper = threading.Thread(target=self._keep, daemon=True)
        self._keeper.start()

    @property
    def address(self) -> str:
        return self.server.address

    def _start(self) -> LocalServer:
        self.starts += 1
        if self._fault is None:
            return LocalServer(*self._flags, wait=False, timeout=START)
        if self._fault == STOCK:
            return StockServer(*self._flags, wait=False, mounts=tuple(self._folders))
        command = [sys.executable, "-m", "tests.rollout.faulty"]
        fault = {"DUOSERVE_TEST_FAULT": self._fault}
        return LocalServer(*self._flags, wait=False, timeout=START, command=tuple(command), env=fault)

    def _keep(self) -> None:
        while not self._ended.wait(0.2):
            if self.server.process.poll() is not None:
                self._ended.wait(0.5)
                if not self._ended.is_set():
                    self.server = self._start()

    def stop(self) -> None:
        self._ended.set()
        self._keeper.join()
        self.server.stop(kill=True)


@dataclasses.dataclass
class Site:
    """A store, a models.config and its replicas."""

    store: Path
    config: Path
    replicas: list[Replica]

    def settings(self, **changes: object) -> Settings:
        usual = Settings(
            model=models.MODEL,
            config=str(self.config),
            replicas=tuple(replica.address for replica in self.replicas),
            store=self.store,
            rehearsal="off",
            parallel=1,
            waits=WAITS,
            limits=LIMITS,
        )
        return dataclasses.replace(usual, **changes)

    def rollout(self, *, allow_contract: bool = False, dry_run: bool = False, **changes: object) -> Rollout:
        return Rollout(self.settings(**changes), allow_contract=allow_contract, dry_run=dry_run)

    def settings_file(self) -> str:
        """The same settings as a file, for the command line."""
        settings = self.settings()
        path = self.config.with_name("rollout.toml")
        lines = [
            f"{name} = {json.dumps(getattr(settings, name))}" for name in ("model", "config", "replicas", "parallel")
        ]
        lines += [f'store = "{self.store}"', 'rehearsal = "off"']
        for table in ("waits", "limits"):
            lines += [f"[{table}]"]
            lines += [f"{name} = {value}" for name, value in dataclasses.asdict(getattr(settings, table)).items()]
        path.write_text("\n".join(lines))
        return str(path)

    def reset(self) -> None:
        """Back to version 1 alone, and no history, as if nothing had been."""
        with self.rollout() as rollout:
            state, _, _ = rollout.status()
        if state.versions and 1 not in state.versions:
            self.write(modelfile.edit(self.config.read_text(), models.MODEL, versions=[*state.versions, 1]))
            self.wait_until_in_sync()
        self.write(CONFIG.format(store=self.store))
        for path in (self.config.parent / ".rollout").glob("*.jsonl"):
            path.unlink()
        self.wait_until_in_sync()

    def write(self, text: str) -> None:
        """Another config, by somebody else than the tool."""
        scratch = self.config.with_suffix(".new")
        scratch.write_text(text)
        scratch.replace(self.config)

    def wait_until_in_sync(self, seconds: float = 120) -> None:
        end = time.monotonic() + seconds
        with self.rollout() as rollout:
            while True:
                _, _, found = rollout.status()
                if not found:
                    return
                assert time.monotonic() < end, [str(one) for one in found]
                time.sleep(0.2)


@contextlib.contextmanager
def running(store: Path, folder: Path, faults: list[str | None]) -> Iterator[Site]:
    config = folder / "models.config"
    config.write_text(CONFIG.format(store=store))
    replicas = [Replica(config, store, fault) for fault in faults]
    site = Site(store, config, replicas)
    try:
        for replica in replicas:
            replica.server.wait_until_ready()
        yield site
    finally:
        for replica in replicas:
            replica.stop()
