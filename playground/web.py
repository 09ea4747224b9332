"""The page and its few calls, over Tornado. The page loads nothing from elsewhere."""

import base64
import dataclasses
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NoReturn

import tornado.web

from demo.pairs import Pair
from duoserve import DuoserveError
from duoserve.contract import ONE_CLASS
from playground import snippets
from playground.protoset import protoset
from playground.targets import Target, Targets, error_record

MAX_BODY_BYTES: Final = 64 << 20
_KINDS: Final = {b"\x89PNG": "image/png", b"\xff\xd8": "image/jpeg", b"fLaC": "audio/flac", b"OggS": "audio/ogg"}
_PAGE: Final = Path(__file__).with_name("page")
_HEADERS: Final = {
    # The browser itself refuses content from elsewhere.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' blob:; media-src blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


@dataclasses.dataclass(frozen=True)
class Site:
    """The content of one playground.

    Attributes:
        targets: The targets to ask.
        rest_url: URL of the server's REST API, for the curl snippet.
        examples: Example images or clips.
        ca: PEM file with the certificates to trust, None for a connection without TLS.
    """

    targets: Targets
    rest_url: str
    examples: Sequence[Pair] = ()
    ca: str | None = None


def application(site: Site, *, any_host: bool = False) -> tornado.web.Application:
    """The web application.

    Args:
        site: Its content.
        any_host: Answer under every host name. Otherwise only under this machine's own, so that
            no web page elsewhere can reach it by a name that points here (DNS rebinding).
    """
    given = {"site": site}
    routes: list[tuple[str, Any, dict[str, Any]]] = [
        (r"/()", _Static, {"path": str(_PAGE), "default_filename": "index.html"}),
        (r"/page/(.+)", _Static, {"path": str(_PAGE)}),
        (r"/serving\.protoset", _Protoset, given),
        (r"/api/about", _About, given),
        (r"/api/examples", _Examples, given),
        (r"/api/examples/([0-9]{1,9})", _File, given),
        (r"/api/predict", _Ask, {**given, "ask": Target.predict}),
        (r"/api/explain", _Ask, {**given, "ask": Target.explain}),
        (r"/api/seen", _Seen, given),
        (r"/api/request", _Request, given),
    ]
    made = tornado.web.Application(log_function=lambda _: None)
    made.add_handlers(r".*" if any_host else r"(127\.0\.0\.1|localhost|\[::1\])", routes)
    return made


class _Static(tornado.web.StaticFileHandler):
    def set_default_headers(self) -> None:
        _set_headers(self)


class _Handler(tornado.web.RequestHandler):
    """Answers with JSON, errors too."""

    def initialize(self, site: Site) -> None:
        self.site = site

    def set_default_headers(self) -> None:
        _set_headers(self)

    def reply(self, record: Any) -> None:
        self.set_header("Content-Type", "application/json")
        self.finish(json.dumps(record))

    def write_error(self, status_code: int, **options: Any) -> None:
        error = options.get("exc_info", (None, None))[1]
        said = error.log_message if isinstance(error, tornado.web.HTTPError) else None
        kind = "BadRequest" if status_code < 500 else "PlaygroundFailed"
        self.reply({"error": {"kind": kind, "message": said or self._reason, "retryable": False}})

    def asked(self) -> dict[str, Any]:
        """The body, with JSON as its content type, which other origins may not send without permission."""
        kind = self.request.headers.get("Content-Type", "")
        if kind.split(";")[0].strip() != "application/json":
            _refuse(f"Expected content of type application/json. Received: {kind or 'none'}")
        try:
            body = json.loads(self.request.body)
        except ValueError as error:
            _refuse(f"Expected JSON. Received: {error}")
        if not isinstance(body, dict):
            _refuse(f"Expected a JSON object. Received: {type(body).__name__}")
        return body

    def target(self, body: Mapping[str, Any]) -> Target:
        name = body.get("target")
        if not isinstance(name, str) or name not in self.site.targets:
            _refuse(f"Expected target to be one of {', '.join(self.site.targets)}. Received: {name!r}")
        return self.site.targets[name]


class _About(_Handler):
    """What is served now, behind each target."""

    async def get(self) -> None:
        targets = self.site.targets
        self.reply({"model": targets.model, "server": targets.server, "targets": await targets.look()})


class _Examples(_Handler):
    """The example images or clips; their numbers are their positions."""

    def get(self) -> None:
        self.reply([{"text": example.text, "label": example.label} for example in self.site.examples])


class _File(_Handler):
    def get(self, number: str) -> None:
        try:
            data = self.site.examples[int(number)].file.read_bytes()
        except (IndexError, OSError) as error:
            raise tornado.web.HTTPError(404, "Expected the number of an example. Received: %s", number) from error
        self.set_header(
            "Content-Type", next((kind for head, kind in _KINDS.items() if data.startswith(head)), "audio/wav")
        )
        self.finish(data)


class _Ask(_Handler):
    """`{"target", "data": base64 or null, "text"}` -> the answer or the explanation, or the client's error."""

    def initialize(self, site: Site, ask: Callable[..., Awaitable[Any]] = Target.predict) -> None:
        super().initialize(site)
        self.ask = ask

    async def post(self) -> None:
        body = self.asked()
        target, data, text = self.target(body), _decoded(body.get("data")), _text(body.get("text"))
        self.reply(await self.ask(target, data, text or None))


class _Seen(_Handler):
    """`{"target", "data": base64}` -> a PNG of what the version sees of it, or the client's error."""

    async def post(self) -> None:
        body = self.asked()
        target, data = self.target(body), _decoded(body.get("data"))
        try:
            png = await target.seen(data or b"")
        except DuoserveError as error:
            self.reply({"error": error_record(error)})
        else:
            self.set_header("Content-Type", "image/png")
            self.finish(png)


class _Request(_Handler):
    """`{"target", "file", "example", "text"}` -> the request as Python, curl and grpcurl."""

    def post(self) -> None:
        body, site = self.asked(), self.site
        target, file, number = self.target(body), body.get("file"), body.get("example")
        if isinstance(number, int) and 0 <= number < len(site.examples):
            file = str(site.examples[number].file)
        if not (file is None or isinstance(file, str)):
            _refuse(f"Expected file to be a name or null. Received: {type(file).__name__}")
        asked = snippets.Asked(
            server=site.targets.server,
            rest_url=site.rest_url,
            model=site.targets.model,
            label=target.label,
            file=file,
            text=_text(body.get("text")),
            medium="image" if target.spec is None else target.spec.medium,
            gives=(ONE_CLASS if target.spec is None else target.spec.answer).gives,
            ca=site.ca,
            raw=target.spec is None or target.spec.serving_bytes,
        )
        here = f"{self.request.protocol}://{self.request.host}"
        python, curl, grpcurl = snippets.python(asked), snippets.curl(asked), snippets.grpcurl(asked, here)
        self.reply({"python": python, "curl": curl, "grpcurl": grpcurl})


class _Protoset(_Handler):
    def get(self) -> None:
        self.set_header("Content-Type", "application/octet-stream")
        self.finish(protoset())


def _set_headers(handler: tornado.web.RequestHandler) -> None:
    handler.clear_header("Server")
    for name, value in _HEADERS.items():
        handler.set_header(name, value)


def _refuse(message: str) -> NoReturn:
    raise tornado.web.HTTPError(400, message.replace("%", "%%"))


def _decoded(value: Any) -> bytes | None:
    if value is None:
        return None
    try:
        if not isinstance(value, str):
            raise TypeError(type(value).__name__)
        return base64.b64decode(value, validate=True)
    except (TypeError, ValueError) as error:
        _refuse(f"Expected data to be base64 or null. Received: {error}")


def _text(value: Any) -> str:
    if not isinstance(value, str):
        _refuse(f"Expected text to be a string. Received: {type(value).__name__}")
    return value
