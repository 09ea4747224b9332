"""One call on one version, observed for the metrics."""

import dataclasses
import time
from collections.abc import Mapping, Sequence

from tensorflow_serving.apis import model_pb2

from serving.local.metrics import Metrics
from serving.local.model.servable import Servable
from serving.local.tensors import Array
from serving.local.versions.states import ServableId


@dataclasses.dataclass(slots=True)  # not frozen: one is made for each call, and that takes three times as long
class VersionCall:
    """The version that answers, and how: with tensor_content, after a check of the signature's method_name.

    The deadline is in monotonic time. Warmup has none, and no metrics.
    """

    id: ServableId
    servable: Servable
    api: str
    deadline: float | None = None
    as_content: bool = False
    check_method: bool = False
    metrics: Metrics | None = None

    def run(self, feeds: Mapping[str, Array], fetches: Sequence[str]) -> list[Array]:
        """Feeds arrays by tensor name, fetches tensors by name."""
        started = time.monotonic()
        arrays = self.servable.run(feeds, fetches, self.deadline)
        if self.metrics is not None:
            micros = (time.monotonic() - started) * 1e6
            self.metrics.runtime_latency.observe(self.id.name, self.api, "TF1", value=micros)
            if self.api != "Predict":
                examples = len(next(iter(feeds.values())))
                self.metrics.example_counts.observe(self.id.name, value=examples)
                self.metrics.example_count_total.add(self.id.name, by=examples)
        return arrays

    def fill_spec(self, spec: model_pb2.ModelSpec, signature_name: str) -> None:
        """Writes which version and signature answered."""
        spec.name = self.id.name
        spec.version.value = self.id.version
        spec.signature_name = signature_name
