"""Encrypted, with certificates on one side or both; rotated files are reloaded, and a bad rotation is harmless."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from duoserve import TLS, InvalidInput, PreprocessingSpec, Retry, ServerUnavailable
from tests.client.fake import FakeServer, Version
from tests.client.load import Load
from tests.client.net import Authority

MakeClient = Callable[..., Any]
ONCE = Retry(attempts=1)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


def test_a_server_with_a_certificate_of_our_authority(
    make_client: MakeClient, spec1: PreprocessingSpec, authority: Authority, jpeg: bytes
) -> None:
    with FakeServer(Version(spec1), credentials=authority.server_credentials()) as server:
        client = make_client(server.address, tls=TLS(ca=authority.path), token=lambda: "secret")
        assert client.predict(jpeg, "x").version == 1
        named = make_client(f"localhost:{server.port}", tls=TLS(ca=authority.path))
        assert named.predict(jpeg, "x").version == 1


def test_servers_that_we_do_not_trust_get_nothing(
    make_client: MakeClient, spec1: PreprocessingSpec, authority: Authority, jpeg: bytes, tmp_path: Path
) -> None:
    (tmp_path / "other").mkdir()
    other = Authority(tmp_path / "other")
    with FakeServer(Version(spec1), credentials=authority.server_credentials()) as server:
        for tls in (TLS(ca=other.path), TLS(ca=authority.path, server_name="another.example"), TLS(), None):
            with pytest.raises(ServerUnavailable):
                make_client(server.address, tls=tls, retry=ONCE).predict(jpeg, "x")
        assert not server.calls
        renamed = make_client([server.address], tls=TLS(ca=authority.path, server_name="localhost"))
        assert renamed.predict(jpeg, "x").version == 1


def test_mutual_tls(make_client: MakeClient, spec1: PreprocessingSpec, authority: Authority, jpeg: bytes) -> None:
    certificate, key = authority.issue("client")
    credentials = authority.server_credentials(clients=authority.path.read_bytes())
    with FakeServer(Version(spec1), credentials=credentials) as server:
        with pytest.raises(ServerUnavailable):
            make_client(server.address, tls=TLS(ca=authority.path), retry=ONCE).predict(jpeg, "x")
        known = make_client(server.address, tls=TLS(ca=authority.path, cert=certificate, key=key))
        assert known.predict(jpeg, "x").version == 1


def test_missing_files_are_named(make_client: MakeClient, jpeg: bytes, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"TLS ca.*missing\.pem"):
        make_client("127.0.0.1:1", tls=TLS(ca=tmp_path / "missing.pem")).predict(jpeg, "x")


@pytest.mark.parametrize("content", [b"", b"not a certificate", b"-----BEGIN CERTIFICATE-----\nAAAA\n"])
@pytest.mark.parametrize("part", ["ca", "cert", "key"])
def test_files_that_are_not_pem_are_refused(
    make_client: MakeClient, server: FakeServer, authority: Authority, jpeg: bytes, part: str, content: bytes
) -> None:
    """gRPC itself ends the whole process on some of them."""
    certificate, key = authority.issue("client")
    files = {"ca": authority.path, "cert": certificate, "key": key}
    files[part] = authority.path.with_name("broken.pem")
    files[part].write_bytes(content)
    said = r"Expected TLS (ca to hold PEM|cert and key to be a pair of PEM)"
    with pytest.raises(InvalidInput, match=said):
        TLS(**files).check()
    with pytest.raises(InvalidInput, match=said):
        make_client(server.address, tls=TLS(**files)).predict(jpeg, "x")


def test_a_key_of_another_certificate_is_refused(
    make_client: MakeClient, server: FakeServer, authority: Authority, jpeg: bytes
) -> None:
    certificate, _ = authority.issue("one")
    _, key = authority.issue("other")
    with pytest.raises(InvalidInput, match="Expected TLS cert and key to be a pair"):
        make_client(server.address, tls=TLS(ca=authority.path, cert=certificate, key=key)).predict(jpeg, "x")


def test_rotated_certificates_are_picked_up_under_load(
    make_client: MakeClient, spec1: PreprocessingSpec, authority: Authority, tmp_path: Path
) -> None:
    """The client's certificate is replaced; new connections show the new one, no call fails."""
    certificate, key = authority.issue("client-a")
    shown: set[str] = set()

    def note(request: Any, context: Any) -> None:
        shown.update(name.decode() for name in context.auth_context()["x509_common_name"])

    credentials = authority.server_credentials(clients=authority.path.read_bytes())
    with FakeServer(Version(spec1), credentials=credentials) as server:
        server.on_predict = note
        tls = TLS(ca=authority.path, cert=certificate, key=key, reload=0.1)
        with Load(make_client(server.address, tls=tls), spec1) as load:
            load.more(20)
            assert shown == {"client-a"}
            # A rotation that is half done: the certificate is new, the key is not yet.
            new_certificate, new_key = authority.issue("client-b")
            shutil.copy(new_certificate, certificate)
            load.more(60)
            shutil.copy(new_key, key)
            load.run_until(lambda: "client-b" in shown)
            load.more(20)  # what was under way on the old connection ends
            shown.clear()
            load.more(20)
            assert shown == {"client-b"}
            # And one that went wrong: the file is gone, then it is no certificate.
            certificate.unlink()
            load.more(40)
            certificate.write_text("not a certificate")
            load.more(40)
        load.assert_clean()
