"""Strict schemas of the custom resources that no package carries: the fields that we use, as their APIs define them.

Gateway API v1 (gateway.networking.k8s.io) and KServe v1beta1. A field that is not here is an error,
so a new one has to be looked up.
"""

from __future__ import annotations

from typing import Any

_NAME = {"type": "string", "pattern": "^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$", "maxLength": 253}


def _object(required: list[str], **properties: Any) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": False, "required": required, "properties": properties}


def _list(of: dict[str, Any], most: int = 16) -> dict[str, Any]:
    return {"type": "array", "items": of, "minItems": 1, "maxItems": most}


_STRINGS = {"type": "object", "additionalProperties": {"type": "string"}}
_PORT = {"type": "integer", "minimum": 1, "maximum": 65535}
_METADATA = _object(["name"], name=_NAME, namespace=_NAME, labels=_STRINGS, annotations=_STRINGS)


def _resource(api: str, kind: str, spec: dict[str, Any]) -> dict[str, Any]:
    return _object(
        ["apiVersion", "kind", "metadata", "spec"],
        apiVersion={"const": api},
        kind={"const": kind},
        metadata=_METADATA,
        spec=spec,
    )


_METHOD = {
    **_object([], type={"enum": ["Exact", "RegularExpression"]}, service={"type": "string"}, method={"type": "string"}),
    "anyOf": [{"required": ["service"]}, {"required": ["method"]}],
}
_BACKEND = _object(
    ["name", "port"],
    group={"type": "string"},
    kind={"type": "string"},
    name=_NAME,
    namespace=_NAME,
    port=_PORT,
    weight={"type": "integer", "minimum": 0, "maximum": 1000000},
)
_ANY: dict[str, Any] = {}

SCHEMAS: dict[str, dict[str, Any]] = {
    "Gateway": _resource(
        "gateway.networking.k8s.io/v1",
        "Gateway",
        _object(
            ["gatewayClassName", "listeners"],
            gatewayClassName=_NAME,
            listeners=_list(
                _object(
                    ["name", "port", "protocol"],
                    name=_NAME,
                    port=_PORT,
                    protocol={"enum": ["HTTP", "HTTPS", "TLS", "TCP", "UDP"]},
                    hostname=_NAME,
                    allowedRoutes=_object(
                        [], namespaces=_object([], **{"from": {"enum": ["All", "Selector", "Same", "None"]}})
                    ),
                ),
                64,
            ),
        ),
    ),
    "GRPCRoute": _resource(
        "gateway.networking.k8s.io/v1",
        "GRPCRoute",
        _object(
            [],
            hostnames=_list({"type": "string"}),
            parentRefs=_list(_object(["name"], name=_NAME, namespace=_NAME, sectionName=_NAME, port=_PORT), 32),
            rules=_list(
                _object(
                    [],
                    name=_NAME,
                    matches=_list(_object([], method=_METHOD, headers={"type": "array"}), 64),
                    backendRefs=_list(_BACKEND),
                )
            ),
        ),
    ),
    # The predictor is a pod spec with fields in front; the pod part is checked as a Pod.
    "InferenceService": _resource(
        "serving.kserve.io/v1beta1",
        "InferenceService",
        _object(
            ["predictor"],
            predictor=_object(
                ["containers"],
                minReplicas={"type": "integer", "minimum": 0},
                maxReplicas={"type": "integer", "minimum": 1},
                scaleMetric={"enum": ["cpu", "memory", "concurrency", "rps"]},
                scaleTarget={"type": "integer", "minimum": 1},
                timeout={"type": "integer", "minimum": 1},
                containers={"type": "array"},
                **dict.fromkeys(
                    [
                        "automountServiceAccountToken",
                        "enableServiceLinks",
                        "nodeSelector",
                        "securityContext",
                        "serviceAccountName",
                        "terminationGracePeriodSeconds",
                        "volumes",
                        "topologySpreadConstraints",
                    ],
                    _ANY,
                ),
            ),
        ),
    ),
}

POD_FIELDS_OF_PREDICTOR = {"minReplicas", "maxReplicas", "scaleMetric", "scaleTarget", "timeout"}
