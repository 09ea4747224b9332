"""OpenTelemetry spans, one for each call. Needs `pip install duoserve[opentelemetry]`.

client = Client(…, observers=[Tracing()])
"""

from collections.abc import Sequence
from typing import Any

from opentelemetry import propagate, trace
from opentelemetry.trace import SpanKind, Status, StatusCode

from duoserve.observe import CallRecord


class Tracing:
    """An observer that makes a client span for each call, and sends its context as metadata."""

    def __init__(self, provider: trace.TracerProvider | None = None) -> None:
        self._tracer = trace.get_tracer("duoserve", tracer_provider=provider)

    def started(self, record: CallRecord) -> tuple[trace.Span, Sequence[tuple[str, str]]]:
        """Opens the span. Returns the metadata with its context (traceparent)."""
        span = self._tracer.start_span(
            f"duoserve {record.operation}",
            kind=SpanKind.CLIENT,
            attributes={
                "rpc.system": "grpc",
                "server.address": record.server,
                "duoserve.model": record.model,
                "duoserve.target": "" if record.target is None else str(record.target),
            },
        )
        carrier: dict[str, str] = {}
        propagate.inject(carrier, trace.set_span_in_context(span))
        return span, tuple((key.lower(), value) for key, value in carrier.items())

    def finished(self, state: Any, record: CallRecord) -> None:
        """Closes the span with the call's results."""
        span: trace.Span = state
        for name in ("rows", "attempts", "hedges", "reprepared", "request_bytes", "outcome", "version", "sent"):
            if (value := getattr(record, name)) is not None:
                span.set_attribute(f"duoserve.{name}", value)
        if record.outcome != "OK":
            span.set_status(Status(StatusCode.ERROR, record.outcome))
        span.end()
