"""`python -m playground`: serves the page, for a running server or for the demo's model."""

import argparse
import asyncio
import contextlib
import signal
import socket
import sys
import webbrowser
from collections.abc import Sequence
from pathlib import Path

import tornado.httpserver
import tornado.netutil

from demo.pairs import held_out
from duoserve import TLS, InvalidInput
from duoserve.arguments import port
from playground.targets import Targets
from playground.web import MAX_BODY_BYTES, Site, application

_EPILOG = """\
Without --server, the demo's model is used: it is trained and exported if necessary (some minutes, once),
and the embedded server serves it with the labels stable and canary.

Exit codes: 0 ended by Ctrl-C or SIGTERM, 1 the demo's model could not be made or served, 2 wrong usage.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns the exit code."""
    options = _parser().parse_args(arguments)
    try:
        with contextlib.ExitStack() as stack:
            if options.server is None:
                from demo.steps import DATA, NAME
                from playground.demo_model import serving

                server = stack.enter_context(serving())
                options.server, options.rest, options.model = server.address, server.rest_url, NAME
                options.examples = options.examples or DATA
            asyncio.run(_serve(options))
    except (ValueError, InvalidInput, OSError) as error:
        print(f"playground: {error}", file=sys.stderr)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m playground",
        description="A page to try a served model: images and words in, the answers of each version out.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--server", metavar="HOST:PORT", help="gRPC address of the server (default: the demo's model)")
    add("--model", default="emoji", help="name of the model (default: %(default)s)")
    add("--rest", metavar="URL", help="its REST API, for the curl snippet (default: port 8501 of the server)")
    add("--label", action="append", help="a version label to show; repeat it (default: stable and canary)")
    add("--examples", type=Path, metavar="FOLDER", help="a data folder with manifest.csv: offers its held-out rows")
    add("--timeout", type=float, default=10.0, metavar="SECONDS", help="for the whole call (default: %(default)s)")
    add("--ca", metavar="PEM", help="encrypt; trust these certificates")
    add("--host", default="127.0.0.1", help="address of the page; 0.0.0.0 opens it to everyone (default: %(default)s)")
    add("--port", type=port, help="port of the page (default: 8600, or a free one if it is taken)")
    add("--no-browser", action="store_true", help="do not open the page")
    return parser


async def _serve(options: argparse.Namespace) -> None:
    labels = options.label or ["stable", "canary"]
    tls = TLS(ca=options.ca) if options.ca else None
    examples = held_out(options.examples) if options.examples else []
    targets = Targets(options.server, options.model, labels, timeout=options.timeout, tls=tls)
    rest = options.rest or f"http://{options.server.rsplit(':', 1)[0]}:8501"
    site = Site(targets, rest.rstrip("/"), examples, options.ca)
    everywhere = options.host not in ("127.0.0.1", "localhost", "::1")
    server = tornado.httpserver.HTTPServer(
        application(site, any_host=everywhere), max_body_size=MAX_BODY_BYTES, max_buffer_size=MAX_BODY_BYTES
    )
    sockets = _listen(options.host, options.port)
    server.add_sockets(sockets)
    host = f"[{options.host}]" if ":" in options.host else options.host
    url = f"http://{host}:{sockets[0].getsockname()[1]}/"
    print(f"The playground is at {url} until you press Ctrl-C.", flush=True)
    if not options.no_browser and sys.stdout.isatty():
        webbrowser.open(url)
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    await stop.wait()
    server.stop()
    await server.close_all_connections()
    await targets.close()


def _listen(host: str, port: int | None) -> list[socket.socket]:
    try:
        return tornado.netutil.bind_sockets(8600 if port is None else port, host)
    except OSError:
        if port is not None:
            raise
        return tornado.netutil.bind_sockets(0, host)


if __name__ == "__main__":
    sys.exit(main())
