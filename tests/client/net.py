"""Network faults: changing names, a hostile proxy, certificates, replicas that can be killed."""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from duoserve import PreprocessingSpec

ROOT = Path(__file__).resolve().parents[2]


class NameServer:
    """Answers every A query with `answer`, which may change at any time."""

    def __init__(self, *answer: str) -> None:
        self.answer: Sequence[str] = answer
        self.queries = 0
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                query, sender = self._socket.recvfrom(2048)
                self._socket.sendto(self._reply(query), sender)

    def _reply(self, query: bytes) -> bytes:
        end = query.index(b"\0", 12) + 5
        question = query[12:end]
        is_a = question[-4:-2] == b"\0\x01"
        self.queries += is_a
        records = [socket.inet_aton(ip) for ip in self.answer] if is_a else []
        answers = b"".join(b"\xc0\x0c\0\x01\0\x01" + struct.pack(">IH", 0, 4) + record for record in records)
        return query[:2] + b"\x81\x80\0\x01" + struct.pack(">H", len(records)) + b"\0\0\0\0" + question + answers

    def __enter__(self) -> NameServer:
        return self

    def __exit__(self, *exception: object) -> None:
        self._socket.close()


class Proxy:
    """Forwards TCP to a port of 127.0.0.1 until told to do worse.

    Attributes:
        delay: Seconds that every piece of data waits.
        silent: Accepts data and forwards none, as behind a dead switch.
        corrupt: Flips one byte of each piece of data that comes from the server.
    """

    def __init__(self, to: int) -> None:
        self.delay = 0.0
        self.silent = self.corrupt = False
        self._to = to
        self._open: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def address(self) -> str:
        """host:port"""
        return f"127.0.0.1:{self.port}"

    def cut(self, *, reset: bool = False) -> None:
        """Closes every connection, with a RST if asked to."""
        for end in list(self._open):
            with contextlib.suppress(OSError):
                if reset:
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    end.close()
                else:
                    end.shutdown(socket.SHUT_RDWR)
            self._open.discard(end)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                try:
                    far = socket.create_connection(("127.0.0.1", self._to))
                except OSError:
                    near.close()
                    continue
                self._open |= {near, far}
                threading.Thread(target=self._pump, args=(near, far, False), daemon=True).start()
                threading.Thread(target=self._pump, args=(far, near, True), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, from_server: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if self.delay:
                    time.sleep(self.delay)
                if self.silent:
                    continue
                if self.corrupt and from_server:
                    middle = len(data) // 2
                    data = data[:middle] + bytes([data[middle] ^ 0x55]) + data[middle + 1 :]
                sink.sendall(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        self._open.discard(source)
        source.close()  # the other thread closes the sink

    def __enter__(self) -> Proxy:
        return self

    def __exit__(self, *exception: object) -> None:
        self._listener.close()
        self.cut()


class Replica:
    """A FakeServer in a separate process, which can be killed."""

    def __init__(self, spec: PreprocessingSpec, port: int = 0) -> None:
        self._spec = spec
        self.process, self.port = self._start(port)

    @property
    def address(self) -> str:
        """host:port"""
        return f"127.0.0.1:{self.port}"

    def _start(self, port: int) -> tuple[subprocess.Popen[str], int]:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.client.replica", str(port)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(self._spec.to_json() + "\n")
        process.stdin.flush()
        return process, int(json.loads(process.stdout.readline()))

    def kill(self) -> None:
        """SIGKILL, and waits until it is gone."""
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait(10)
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            pipe.close()

    def restart(self) -> None:
        """Starts again on the same port."""
        self.process, self.port = self._start(self.port)

    def __enter__(self) -> Replica:
        return self

    def __exit__(self, *exception: object) -> None:
        if self.process.poll() is None:
            self.kill()


class Authority:
    """A certificate authority that signs certificates for 127.0.0.1 and localhost."""

    def __init__(self, folder: Path, name: str = "authority") -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.folder = folder
        self.certificate = self._sign(self._name, self._key, ca=True)
        self.path = folder / f"{name}.pem"
        self.path.write_bytes(self.certificate.public_bytes(serialization.Encoding.PEM))

    def issue(self, name: str) -> tuple[Path, Path]:
        """Writes a new certificate and its key to NAME.pem and NAME.key."""
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = self._sign(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]), key, ca=False)
        paths = self.folder / f"{name}.pem", self.folder / f"{name}.key"
        paths[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        paths[1].write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return paths

    def _sign(self, name: x509.Name, key: ec.EllipticCurvePrivateKey, *, ca: bool) -> x509.Certificate:
        now = datetime.datetime.now(datetime.timezone.utc)
        builder = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        )
        if not ca:
            names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return builder.sign(self._key, hashes.SHA256())

    def server_credentials(self, name: str = "server", *, clients: bytes | None = None) -> grpc.ServerCredentials:
        """Credentials of a server; with `clients` it asks for a certificate that those authorities signed."""
        certificate, key = self.issue(name)
        pair = [(key.read_bytes(), certificate.read_bytes())]
        return grpc.ssl_server_credentials(pair, clients, clients is not None)
