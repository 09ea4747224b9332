"""A proxy in the environment: calls to this machine, and to lists of servers, do not go there."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from duoserve import DuoserveError
from tests.client.fake import FakeServer

MakeClient = Callable[..., Any]


class Proxy:
    """Notes what it is asked for, and refuses."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                asking, _ = self._socket.accept()
            except OSError:
                return
            with asking:
                self.asked.append(asking.recv(1000).decode("latin-1").split("\r\n")[0])

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


@pytest.fixture
def proxy(monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    found = Proxy()
    for name in ("no_proxy", "NO_PROXY", "no_grpc_proxy"):
        monkeypatch.delenv(name, raising=False)
    for name in ("grpc_proxy", "http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy"):
        monkeypatch.setenv(name, found.url)
    yield found
    found.close()


@pytest.mark.parametrize(
    "form",
    ["127.0.0.1:{}", "localhost:{}", "dns:///localhost:{}", "dns:LOCALHOST:{}", "ipv4:127.0.0.1:{}", ["localhost:{}"]],
    ids=str,
)
def test_this_machine_is_called_directly(
    make_client: MakeClient, server: FakeServer, proxy: Proxy, form: str | list[str]
) -> None:
    port = server.address.rpartition(":")[2]
    address = form.format(port) if isinstance(form, str) else [entry.format(port) for entry in form]
    assert make_client(address).describe().labels
    assert proxy.asked == []


@pytest.mark.parametrize("address", ["models.invalid:8500", "dns:///models.invalid:8500", ["192.0.2.1:8500"]])
def test_one_server_elsewhere_is_called_through_the_proxy(
    make_client: MakeClient, proxy: Proxy, address: str | list[str]
) -> None:
    with pytest.raises(DuoserveError):
        make_client(address, timeout=2).describe()
    host = "192.0.2.1" if isinstance(address, list) else "models.invalid"
    assert proxy.asked[0].startswith(f"CONNECT {host}:8500 ")


def test_a_list_of_servers_is_called_directly(make_client: MakeClient, proxy: Proxy) -> None:
    with pytest.raises(DuoserveError):
        make_client(["192.0.2.1:8500", "192.0.2.2:8500"], timeout=1).describe()
    assert proxy.asked == []
