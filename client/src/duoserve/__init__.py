"""A thin gRPC client for image + text models on TensorFlow Serving.

from duoserve import Client

with Client("localhost:8500", model="pairs", label="stable") as client:
    answer = client.predict("photo.jpg", "a red heart")
    print(answer.label, answer.probability, answer.version)
"""

from duoserve._messages import Outputs, VersionStatus
from duoserve.aio import AsyncClient
from duoserve.audio import Clip
from duoserve.client import Client
from duoserve.contract import AudioSpec, ContractError, PreprocessingSpec, SignatureSpec, TensorSpec
from duoserve.errors import (
    BadReply,
    ClientClosed,
    DeadlineExceeded,
    DuoserveError,
    InvalidInput,
    MessageTooLarge,
    ModelNotFound,
    PermissionDenied,
    RequestRejected,
    ServerBusy,
    ServerUnavailable,
    SpecChanged,
    UnsupportedModel,
)
from duoserve.explanation import Explanation, InputRelevance, Word
from duoserve.options import TLS, Connection, Hedge, Retry
from duoserve.preprocess import Preprocessor
from duoserve.results import BatchResult, Embedding, EmbeddingBatch, Pair, Prediction, Scored, TensorPrediction
from duoserve.routing import Canary, Shadow, ShadowReport

__all__ = [
    "TLS",
    "AsyncClient",
    "AudioSpec",
    "BadReply",
    "BatchResult",
    "Canary",
    "Client",
    "ClientClosed",
    "Clip",
    "Connection",
    "ContractError",
    "DeadlineExceeded",
    "DuoserveError",
    "Embedding",
    "EmbeddingBatch",
    "Explanation",
    "Hedge",
    "InputRelevance",
    "InvalidInput",
    "MessageTooLarge",
    "ModelNotFound",
    "Outputs",
    "Pair",
    "PermissionDenied",
    "Prediction",
    "PreprocessingSpec",
    "Preprocessor",
    "RequestRejected",
    "Retry",
    "Scored",
    "ServerBusy",
    "ServerUnavailable",
    "Shadow",
    "ShadowReport",
    "SignatureSpec",
    "SpecChanged",
    "TensorPrediction",
    "TensorSpec",
    "UnsupportedModel",
    "VersionStatus",
    "Word",
]
