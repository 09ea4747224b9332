"""The calls of both APIs: protos in and out."""

import dataclasses
import time
from collections.abc import Callable
from typing import Any, Final

from tensorflow_serving.apis.classification_pb2 import ClassificationRequest
from tensorflow_serving.apis.get_model_metadata_pb2 import (
    GetModelMetadataRequest,
    GetModelMetadataResponse,
    SignatureDefMap,
)
from tensorflow_serving.apis.get_model_status_pb2 import GetModelStatusRequest, GetModelStatusResponse
from tensorflow_serving.apis.inference_pb2 import MultiInferenceRequest
from tensorflow_serving.apis.model_management_pb2 import ReloadConfigRequest, ReloadConfigResponse
from tensorflow_serving.apis.model_pb2 import ModelSpec
from tensorflow_serving.apis.predict_pb2 import PredictRequest
from tensorflow_serving.apis.regression_pb2 import RegressionRequest

from serving.local.calls import examples, predict
from serving.local.calls.version_call import VersionCall
from serving.local.errors import invalid_argument, not_found
from serving.local.metrics import Metrics
from serving.local.model.servable import Servable
from serving.local.versions.core import ServerCore

METADATA_FIELD: Final = "signature_def"
INFERENCE: Final[dict[str, tuple[Any, Callable[[VersionCall, Any], Any]]]] = {
    "Predict": (PredictRequest, predict.predict),
    "Classify": (ClassificationRequest, examples.classify),
    "Regress": (RegressionRequest, examples.regress),
    "MultiInference": (MultiInferenceRequest, examples.multi_inference),
}
"""The calls that run a model: the type of the request, and what answers it."""


def spec_of(request: Any) -> ModelSpec:
    """The model that a request asks for: that of the first task when there are several."""
    if isinstance(request, MultiInferenceRequest):
        return request.tasks[0].model_spec if request.tasks else ModelSpec()
    if not request.HasField("model_spec"):
        raise invalid_argument("Missing ModelSpec")
    return request.model_spec


@dataclasses.dataclass(frozen=True, slots=True)
class Service:
    """The calls of PredictionService and ModelService. Each raises ServingError or tf.errors.OpError.

    `as_content` and `check_method` are passed to each `VersionCall`.
    """

    core: ServerCore[Servable]
    metrics: Metrics
    as_content: bool = False
    check_method: bool = False

    def infer(self, api: str, request: Any, seconds: float | None) -> Any:
        """Runs a model: one of the calls of `INFERENCE`, for which the caller waits so many seconds."""
        deadline = None if seconds is None else time.monotonic() + seconds
        with self.core.servable(spec_of(request)) as (found, servable):
            call = VersionCall(found, servable, api, deadline, self.as_content, self.check_method, self.metrics)
            return INFERENCE[api][1](call, request)

    def metadata(self, request: GetModelMetadataRequest) -> GetModelMetadataResponse:
        spec = spec_of(request)
        if not request.metadata_field:
            raise invalid_argument("GetModelMetadataRequest must specify at least one metadata_field")
        for field in request.metadata_field:
            if field != METADATA_FIELD:
                raise invalid_argument(f"Metadata field {field} is not supported")
        response = GetModelMetadataResponse()
        with self.core.servable(spec) as (found, servable):
            signatures = SignatureDefMap(signature_def=servable.signatures)
            response.metadata[METADATA_FIELD].Pack(signatures)
            response.model_spec.name = found.name
            response.model_spec.version.value = found.version
        return response

    def status(self, request: GetModelStatusRequest) -> GetModelStatusResponse:
        spec = spec_of(request)
        statuses = self.core.states.versions(spec.name)
        if spec.HasField("version"):
            version = spec.version.value
            if version not in statuses:
                raise not_found(f"Could not find version {version} of model {spec.name}")
            statuses = {version: statuses[version]}
        if not statuses:
            raise not_found(f"Could not find any versions of model {spec.name}")
        response = GetModelStatusResponse()
        for version, status in statuses.items():
            added = response.model_version_status.add(version=version, state=status.state.value)
            added.status.SetInParent()
            if status.error is not None:
                added.status.error_code = status.error.code.value[0]
                added.status.error_message = status.error.message
        return response

    def reload(self, request: ReloadConfigRequest, give_up: Callable[[], bool]) -> ReloadConfigResponse:
        if request.config.WhichOneof("config") != "model_config_list":
            raise invalid_argument(
                "ServerModelConfig type not supported by HandleReloadConfigRequest. Only ModelConfigList is currently "
                "supported"
            )
        self.core.reload(request.config, give_up)
        return ReloadConfigResponse(status={})
