"""A thin gRPC client for image + text models on TensorFlow Serving.

with Client("localhost:8500", model="pairs", label="stable") as client:
    print(client.predict("photo.jpg", "a red heart").label)
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from duoserve._wire.messages import *
    from duoserve.aio import *
    from duoserve.client import *
    from duoserve.contract import *
    from duoserve.errors import *
    from duoserve.explanation import *
    from duoserve.options import *
    from duoserve.preprocessing.audio import *
    from duoserve.preprocessing.preprocessor import *
    from duoserve.results import *
    from duoserve.routing import *

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
    "NotAnswered",
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

# Loaded on first use (PEP 562), the light ones first: `duoserve.console`, for one, starts without gRPC.
_MODULES = (
    "errors",
    "contract",
    "options",
    "results",
    "explanation",
    "routing",
    "preprocessing.audio",
    "preprocessing.preprocessor",
    "_wire.messages",
    "client",
    "aio",
)


def __getattr__(name: str) -> Any:
    if name in __all__:
        for module in _MODULES:
            home = importlib.import_module(f"duoserve.{module}")
            if hasattr(home, name):
                value = globals()[name] = getattr(home, name)
                return value
    raise AttributeError(f"module 'duoserve' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
