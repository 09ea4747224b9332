"""The work of each call, for both APIs: one method for each, protos in and out."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_management_pb2,
    model_pb2,
    predict_pb2,
    regression_pb2,
)

from serving.local.calls import examples, predict
from serving.local.deadline import Deadline
from serving.local.errors import invalid_argument, not_found
from serving.local.metrics import Metrics
from serving.local.model.servable import Servable, SignatureDef
from serving.local.tensors import Array
from serving.local.versions.core import ServerCore
from serving.local.versions.manager import Handle
from serving.local.versions.states import ServableId, VersionStatus

METADATA_FIELD: Final = "signature_def"


class _Observed:
    """A version whose runs are timed for the metrics."""

    def __init__(self, handle: Handle[Servable], metrics: Metrics, api: str) -> None:
        self.signatures: Mapping[str, SignatureDef] = handle.servable.signatures
        self._servable = handle.servable
        self._metrics = metrics
        self._model = handle.id.name
        self._api = api

    def run(self, feeds: Mapping[str, Array], fetches: Sequence[str], deadline: Deadline) -> list[Array]:
        started = time.monotonic()
        arrays = self._servable.run(feeds, fetches, deadline)
        micros = (time.monotonic() - started) * 1e6
        self._metrics.runtime_latency.observe(self._model, self._api, "TF1", value=micros)
        if self._api != "Predict":
            examples = len(next(iter(feeds.values())))
            self._metrics.example_counts.observe(self._model, value=examples)
            self._metrics.example_count_total.add(self._model, by=examples)
        return arrays


@dataclasses.dataclass(frozen=True, slots=True)
class Service:
    """The calls of PredictionService and ModelService. Each raises ServingError or tf.errors.OpError.

    Attributes:
        core: The models.
        metrics: Where runs are counted and timed.
        as_content: Reply with tensor_content.
        check_method: Check a signature's method_name first.
    """

    core: ServerCore[Servable]
    metrics: Metrics
    as_content: bool = False
    check_method: bool = False

    def predict(self, request: predict_pb2.PredictRequest, deadline: Deadline) -> predict_pb2.PredictResponse:
        _require_spec(request)
        with self.core.servable(request.model_spec) as found:
            return predict.predict(
                _Observed(found, self.metrics, "Predict"),
                found.id.version,
                request,
                deadline,
                as_content=self.as_content,
                check_method=self.check_method,
            )

    def classify(
        self, request: classification_pb2.ClassificationRequest, deadline: Deadline
    ) -> classification_pb2.ClassificationResponse:
        _require_spec(request)
        with self.core.servable(request.model_spec) as found:
            servable = _Observed(found, self.metrics, "Classify")
            return examples.classify(servable, found.id.version, request, deadline, check_method=self.check_method)

    def regress(
        self, request: regression_pb2.RegressionRequest, deadline: Deadline
    ) -> regression_pb2.RegressionResponse:
        _require_spec(request)
        with self.core.servable(request.model_spec) as found:
            servable = _Observed(found, self.metrics, "Regress")
            return examples.regress(servable, found.id.version, request, deadline, check_method=self.check_method)

    def multi_inference(
        self, request: inference_pb2.MultiInferenceRequest, deadline: Deadline
    ) -> inference_pb2.MultiInferenceResponse:
        spec = request.tasks[0].model_spec if request.tasks else model_pb2.ModelSpec()
        with self.core.servable(spec) as found:
            return examples.multi_inference(
                _Observed(found, self.metrics, "MultiInference"),
                found.id.version,
                request,
                deadline,
                check_method=self.check_method,
            )

    def metadata(
        self, request: get_model_metadata_pb2.GetModelMetadataRequest
    ) -> get_model_metadata_pb2.GetModelMetadataResponse:
        _require_spec(request)
        if not request.metadata_field:
            raise invalid_argument("GetModelMetadataRequest must specify at least one metadata_field")
        for field in request.metadata_field:
            if field != METADATA_FIELD:
                raise invalid_argument(f"Metadata field {field} is not supported")
        response = get_model_metadata_pb2.GetModelMetadataResponse()
        with self.core.servable(request.model_spec) as found:
            signatures = get_model_metadata_pb2.SignatureDefMap(signature_def=found.servable.signatures)
            response.metadata[METADATA_FIELD].Pack(signatures)
            response.model_spec.name = found.id.name
            response.model_spec.version.value = found.id.version
        return response

    def status(
        self, request: get_model_status_pb2.GetModelStatusRequest
    ) -> get_model_status_pb2.GetModelStatusResponse:
        _require_spec(request)
        spec = request.model_spec
        if spec.HasField("version"):
            status = self.core.states.status(ServableId(spec.name, spec.version.value))
            if status is None:
                raise not_found(f"Could not find version {spec.version.value} of model {spec.name}")
            statuses = {spec.version.value: status}
        else:
            statuses = self.core.states.versions(spec.name)
            if not statuses:
                raise not_found(f"Could not find any versions of model {spec.name}")
        response = get_model_status_pb2.GetModelStatusResponse()
        for version, status in statuses.items():
            _fill_status(response.model_version_status.add(), version, status)
        return response

    def reload(
        self, request: model_management_pb2.ReloadConfigRequest, give_up: Callable[[], bool]
    ) -> model_management_pb2.ReloadConfigResponse:
        if request.config.WhichOneof("config") != "model_config_list":
            raise invalid_argument(
                "ServerModelConfig type not supported by HandleReloadConfigRequest. Only ModelConfigList is currently "
                "supported"
            )
        self.core.reload(request.config, give_up)
        response = model_management_pb2.ReloadConfigResponse()
        response.status.SetInParent()
        return response


def _require_spec(request: object) -> None:
    if not request.HasField("model_spec"):  # type: ignore[attr-defined]
        raise invalid_argument("Missing ModelSpec")


def _fill_status(proto: get_model_status_pb2.ModelVersionStatus, version: int, status: VersionStatus) -> None:
    proto.version = version
    proto.state = status.state.value
    proto.status.SetInParent()
    if status.error is not None:
        proto.status.error_code = status.error.number
        proto.status.error_message = status.error.message
