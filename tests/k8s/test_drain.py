"""The drain recipe: a pod is deleted under load, and no call is lost."""

from __future__ import annotations

import threading
import time
from pathlib import Path

from duoserve import Client, Connection, DuoserveError, Retry
from serving.local.testing import free_port
from tests.client.net import NameServer
from tests.k8s.deployment import Pod

# The manifest's seconds, divided: connection age 30, grace 10, DNS 30, drain 75.
AGE = "grpc.max_connection_age_ms=1000,grpc.max_connection_age_grace_ms=2000"
PROPAGATION, DRAIN = 1.0, 6


def test_a_deleted_pod_loses_no_call_even_without_retries(store: Path, image: bytes) -> None:
    """SIGTERM first, the name's answer a second later, as in a cluster; the client gets one attempt a call."""
    ports = {"port": str(free_port()), "rest_api_port": str(free_port()), "grpc_channel_arguments": AGE}
    failures: list[DuoserveError] = []
    calls = 0
    over = threading.Event()
    with (
        Pod(store, drain=DRAIN, host="127.0.0.2", **ports) as leaving,
        Pod(store, drain=1, host="127.0.0.3", **ports),
        NameServer("127.0.0.2", "127.0.0.3") as names,
        Client(
            f"dns://127.0.0.1:{names.port}/pods.test:{ports['port']}",
            model="emoji",
            label="stable",
            connection=Connection(refresh=0.5),
            retry=Retry(attempts=1),
        ) as client,
    ):

        def call() -> None:
            nonlocal calls
            while not over.is_set():
                try:
                    client.predict(image, "red cat", timeout=20)
                except DuoserveError as error:
                    failures.append(error)
                calls += 1
                time.sleep(0.005)

        callers = [threading.Thread(target=call) for _ in range(3)]
        for caller in callers:
            caller.start()
        try:
            time.sleep(2)
            leaving.process.terminate()
            time.sleep(PROPAGATION)
            names.answer = ["127.0.0.3"]
            assert leaving.process.wait(30) == 0
            time.sleep(1)
        finally:
            over.set()
            for caller in callers:
                caller.join(60)
    assert calls > 100
    assert not failures, f"{len(failures)} of {calls}: {failures[:2]}"
