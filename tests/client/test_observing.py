"""Metrics by served version and label, and a span for each call with its context sent along."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client import CollectorRegistry

from duoserve import Hedge, InvalidInput, ModelNotFound
from duoserve.metrics import PrometheusMetrics
from duoserve.observe import CallRecord
from duoserve.tracing import Tracing
from tests.client.fake import FakeServer

MakeClient = Callable[..., Any]


def test_metrics_distinguish_versions_and_labels(make_client: MakeClient, server: FakeServer, jpeg: bytes) -> None:
    registry = CollectorRegistry()
    metrics = PrometheusMetrics(registry)
    for family in registry.collect():
        assert family.name + ("_total" if family.type == "counter" else "") in PrometheusMetrics.__doc__
    client = make_client(server.address, label="stable", observers=[metrics])
    other = make_client(server.address, label="gone", observers=[metrics])
    client.predict(jpeg, "x")
    server.labels["stable"] = 2
    client.predict(jpeg, "x")
    client.predict_batch([(jpeg, "x"), (b"", "x")])
    with pytest.raises(ModelNotFound):
        other.predict(jpeg, "x")

    def value(name: str, version: str, operation: str = "predict", target: str = "stable", **more: str) -> Any:
        labels = {"model": "pairs", "operation": operation, "target": target, "version": version, **more}
        return registry.get_sample_value(f"duoserve_client_{name}", labels)

    assert value("calls_total", "1", outcome="OK") == value("calls_total", "2", outcome="OK") == 1
    assert value("calls_total", "", target="gone", outcome="ModelNotFound") == 1
    assert value("call_seconds_count", "2") == 1
    assert value("reprepared_total", "2") == 1 and value("reprepared_total", "1") is None
    assert value("attempts_total", "2") == 3, "by the label, for the spec, and pinned"
    assert value("rows_total", "2", "predict_batch") == 2
    assert value("row_errors_total", "2", "predict_batch") == 1
    assert value("request_bytes_total", "1", sent="tensors") > 16 * 16 * 3


def test_the_bytes_of_a_hedge_count_too(make_client: MakeClient, server: FakeServer, jpeg: bytes) -> None:
    registry = CollectorRegistry()
    client = make_client(server.address, hedge=Hedge(after=0.05), observers=[PrometheusMetrics(registry)])
    client.predict(jpeg, "x")

    def sent() -> list[Any]:
        counters = ("request_bytes", {"sent": "tensors"}), ("attempts", {}), ("hedges", {})
        labels = {"model": "pairs", "operation": "predict", "target": "", "version": "3"}
        named = ((f"duoserve_client_{name}_total", {**labels, **more}) for name, more in counters)
        return [registry.get_sample_value(*each) or 0 for each in named]

    before = sent()
    server.on_predict = lambda request, context: time.sleep(0.5)
    client.predict(jpeg, "x")
    size, attempts, hedges = (new - old for new, old in zip(sent(), before, strict=True))
    assert (attempts, hedges) == (2, 1) and size == 2 * server.predictions()[-1].ByteSize()


class Faulty:
    """An observer with a fault in one of its methods; keeps what it hears."""

    def __init__(self, method: str, gives: Any = None) -> None:
        self.method, self.gives, self.heard = method, gives, []  # type: ignore[var-annotated]

    def started(self, record: CallRecord) -> Any:
        self.heard.append("started")
        if self.method == "started":
            raise RuntimeError("a full disk")
        return self.gives or (None, ())

    def finished(self, state: Any, record: CallRecord) -> None:
        self.heard.append(record.outcome)
        if self.method == "finished":
            raise RuntimeError("a full disk")


@pytest.mark.parametrize("method", ["started", "finished"])
def test_an_observer_that_raises_costs_no_call_and_no_other_observer(
    make_client: MakeClient, server: FakeServer, jpeg: bytes, method: str, caplog: pytest.LogCaptureFixture
) -> None:
    before, faulty, after = Faulty(""), Faulty(method), Faulty("")
    client = make_client(server.address, observers=[before, faulty, after])
    for _ in range(3):
        assert client.predict(jpeg, "x").version == 3
    assert not client.predict_batch([(jpeg, "x")]).errors
    with pytest.raises(InvalidInput):
        client.predict(b"", "x")
    assert before.heard == after.heard == ["started", "OK"] * 4 + ["started", "InvalidInput"]
    assert faulty.heard == (["started"] * 5 if method == "started" else before.heard)
    (logged,) = [record for record in caplog.records if record.levelname == "WARNING"]
    assert logged.name == "duoserve" and logged.exc_info is not None
    assert f"Received: RuntimeError from {method}" in logged.getMessage() and "Faulty" in logged.getMessage()


@pytest.mark.parametrize("gives", [5, (None, 5), (None, [("UPPER", "case")])])
def test_an_observer_that_gives_no_metadata_costs_no_call(
    make_client: MakeClient, server: FakeServer, jpeg: bytes, gives: Any, caplog: pytest.LogCaptureFixture
) -> None:
    observer = Faulty("", gives)
    assert make_client(server.address, observers=[observer]).predict(jpeg, "x").version == 3
    assert observer.heard == (["started"] if gives == 5 else ["started", "OK"])
    assert "logged once" in caplog.text


def test_a_span_for_each_call(make_client: MakeClient, server: FakeServer, jpeg: bytes) -> None:
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    seen: list[str] = []
    server.on_predict = lambda request, context: seen.append(dict(context.invocation_metadata())["traceparent"])
    client = make_client(server.address, label="stable", observers=[Tracing(provider)])
    client.predict(jpeg, "my private text")
    with pytest.raises(InvalidInput):
        client.predict(b"", "my private text")
    good, bad = exporter.get_finished_spans()
    assert good.name == "duoserve predict" and good.attributes is not None and good.context is not None
    assert good.attributes["duoserve.version"] == 1 and good.attributes["duoserve.target"] == "stable"
    assert good.status.is_ok and not bad.status.is_ok and bad.status.description == "InvalidInput"
    assert all(f"{good.context.trace_id:032x}-{good.context.span_id:016x}" in parent for parent in seen) and seen
    assert "private" not in str(good.to_json()) + str(bad.to_json())
