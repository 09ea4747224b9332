"""Classify, Regress and MultiInference: tf.Examples in, labels and scores or values out."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Final

import numpy as np
from tensorflow.core.framework import types_pb2
from tensorflow_serving.apis import (
    classification_pb2,
    inference_pb2,
    input_pb2,
    model_pb2,
    regression_pb2,
)

from serving.local.deadline import Deadline
from serving.local.errors import Code, ServingError, failed_precondition, invalid_argument
from serving.local.model.servable import DEFAULT_SIGNATURE, Runner, SignatureDef
from serving.local.tensors import Array, dtype_enum

CLASSIFY: Final = "tensorflow/serving/classify"
REGRESS: Final = "tensorflow/serving/regress"


@dataclasses.dataclass(frozen=True, slots=True)
class _Plan:
    """The tensors to feed and fetch for one task, by name; `outputs` by the signature's key."""

    signature_name: str
    input: str
    outputs: dict[str, str]


def _signature(servable: Runner, spec: model_pb2.ModelSpec) -> tuple[str, SignatureDef]:
    name = spec.signature_name or DEFAULT_SIGNATURE
    signature = servable.signatures.get(name)
    if signature is None:
        raise invalid_argument(f"No signature was found with the name: {name}")
    return name, signature


def _check_method(signature: SignatureDef, method: str, check: bool) -> None:
    if check and signature.method_name != method:
        kind = method.rsplit("/", 1)[-1]
        noun = {"classify": "classification", "regress": "regression"}[kind]
        raise invalid_argument(f"Expected {noun} signature method_name to be {method}. Was: {signature.method_name}")


def _one_input(signature: SignatureDef) -> None:
    if len(signature.inputs) != 1:
        raise invalid_argument("Expected one input Tensor.")


def _plan_classify(name: str, signature: SignatureDef, check: bool) -> _Plan:
    _check_method(signature, CLASSIFY, check)
    _one_input(signature)
    if len(signature.outputs) not in (1, 2):
        raise invalid_argument(f"Expected one or two output Tensors, found {len(signature.outputs)}")
    if "inputs" not in signature.inputs:
        raise failed_precondition(f"No classification inputs found in SignatureDef: {signature}")
    outputs = {key: signature.outputs[key].name for key in ("classes", "scores") if key in signature.outputs}
    if not outputs:
        raise failed_precondition(
            'Expected classification signature outputs to contain at least one of "classes" or "scores". '
            f"Signature was: {signature}"
        )
    return _Plan(name, signature.inputs["inputs"].name, outputs)


def _plan_regress(name: str, signature: SignatureDef, check: bool) -> _Plan:
    _check_method(signature, REGRESS, check)
    _one_input(signature)
    if len(signature.outputs) != 1:
        raise invalid_argument("Expected one output Tensor.")
    if "inputs" not in signature.inputs:
        raise failed_precondition(f"No regression inputs found in SignatureDef: {signature}")
    if "outputs" not in signature.outputs:
        raise failed_precondition(f"No regression outputs found in SignatureDef: {signature}")
    return _Plan(name, signature.inputs["inputs"].name, {"outputs": signature.outputs["outputs"].name})


def _serialised(source: input_pb2.Input) -> Array:
    """The examples as a string array of shape (batch,); a shared context goes before each."""
    kind = source.WhichOneof("kind")
    if kind == "example_list":
        texts = [example.SerializeToString() for example in source.example_list.examples]
    elif kind == "example_list_with_context":
        context = source.example_list_with_context.context.SerializeToString()
        texts = [context + example.SerializeToString() for example in source.example_list_with_context.examples]
    else:
        texts = []
    if not texts:
        raise invalid_argument("Input is empty.")
    array = np.empty(len(texts), dtype=object)
    array[:] = texts
    return array


def _run(
    servable: Runner, source: input_pb2.Input, plans: Sequence[_Plan], deadline: Deadline
) -> tuple[int, dict[str, Array]]:
    """The number of examples, and the fetched arrays by tensor name."""
    examples = _serialised(source)
    fetches = sorted({name for plan in plans for name in plan.outputs.values()})
    feeds = {plan.input: examples for plan in plans}
    arrays = servable.run(feeds, fetches, deadline)
    return len(examples), dict(zip(fetches, arrays, strict=True))


def _expect(array: Array, what: str, enum: int, count: int) -> None:
    shape = f"[{','.join(map(str, array.shape))}]"
    if array.ndim != 2:
        raise invalid_argument(f"Expected Tensor shape: [batch_size num_classes] but got {shape}")
    if dtype_enum(array) != enum:
        raise invalid_argument(
            f"Expected {what} Tensor of {types_pb2.DataType.Name(enum)}. "
            f"Got: {types_pb2.DataType.Name(dtype_enum(array))}"
        )
    if len(array) != count:
        raise invalid_argument(f"Expected {what} output batch size of {count}. Got: {len(array)}")


def _classifications(plan: _Plan, count: int, arrays: dict[str, Array]) -> classification_pb2.ClassificationResult:
    classes = arrays[plan.outputs["classes"]] if "classes" in plan.outputs else None
    scores = arrays[plan.outputs["scores"]] if "scores" in plan.outputs else None
    if classes is not None:
        _expect(classes, "classes", types_pb2.DT_STRING, count)
    if scores is not None:
        _expect(scores, "scores", types_pb2.DT_FLOAT, count)
    if classes is not None and scores is not None and classes.shape[1] != scores.shape[1]:
        raise invalid_argument(
            f"Tensors class and score should match in dim_size(1). Got {classes.shape[1]} vs. {scores.shape[1]}"
        )
    width = next(array.shape[1] for array in (classes, scores) if array is not None)
    result = classification_pb2.ClassificationResult()
    for row in range(count):
        one = result.classifications.add()
        for column in range(width):
            entry = one.classes.add()
            if classes is not None:
                entry.label = classes[row][column].decode("utf-8", "replace")
            if scores is not None:
                entry.score = float(scores[row][column])
    return result


def _regressions(plan: _Plan, count: int, arrays: dict[str, Array]) -> regression_pb2.RegressionResult:
    array = arrays[plan.outputs["outputs"]]
    if not (array.ndim == 1 or (array.ndim == 2 and array.shape[1] == 1)):
        raise invalid_argument(
            "Expected output Tensor shape to be either [batch_size] or [batch_size, 1] but got "
            f"[{','.join(map(str, array.shape))}]"
        )
    if len(array) != count:
        raise invalid_argument(f"Input batch size did not match output batch size: {count} vs. {len(array)}")
    if array.dtype != np.float32:
        raise invalid_argument(
            f"Expected output Tensor of DT_FLOAT.  Got: {types_pb2.DataType.Name(dtype_enum(array))}"
        )
    result = regression_pb2.RegressionResult()
    for value in array.reshape(-1).tolist():
        result.regressions.add().value = value
    return result


def _fill_spec(spec: model_pb2.ModelSpec, name: str, version: int, signature_name: str) -> None:
    spec.name = name
    spec.version.value = version
    spec.signature_name = signature_name


def classify(
    servable: Runner,
    version: int,
    request: classification_pb2.ClassificationRequest,
    deadline: Deadline,
    *,
    check_method: bool = False,
) -> classification_pb2.ClassificationResponse:
    """Labels and scores of each example."""
    plan = _plan_classify(*_signature(servable, request.model_spec), check_method)
    count, arrays = _run(servable, request.input, [plan], deadline)
    response = classification_pb2.ClassificationResponse(result=_classifications(plan, count, arrays))
    _fill_spec(response.model_spec, request.model_spec.name, version, plan.signature_name)
    return response


def regress(
    servable: Runner,
    version: int,
    request: regression_pb2.RegressionRequest,
    deadline: Deadline,
    *,
    check_method: bool = False,
) -> regression_pb2.RegressionResponse:
    """A value for each example."""
    plan = _plan_regress(*_signature(servable, request.model_spec), check_method)
    count, arrays = _run(servable, request.input, [plan], deadline)
    response = regression_pb2.RegressionResponse(result=_regressions(plan, count, arrays))
    _fill_spec(response.model_spec, request.model_spec.name, version, plan.signature_name)
    return response


def multi_inference(
    servable: Runner,
    version: int,
    request: inference_pb2.MultiInferenceRequest,
    deadline: Deadline,
    *,
    check_method: bool = False,
) -> inference_pb2.MultiInferenceResponse:
    """Several classify and regress signatures on the same examples, in one run of the graph."""
    plans = _plan_tasks(servable, request, check_method)
    count, arrays = _run(servable, request.input, plans, deadline)
    response = inference_pb2.MultiInferenceResponse()
    for task, plan in zip(request.tasks, plans, strict=True):
        result = response.results.add()
        _fill_spec(result.model_spec, task.model_spec.name, version, plan.signature_name)
        if task.method_name == CLASSIFY:
            result.classification_result.CopyFrom(_classifications(plan, count, arrays))
        else:
            result.regression_result.CopyFrom(_regressions(plan, count, arrays))
    return response


def _plan_tasks(servable: Runner, request: inference_pb2.MultiInferenceRequest, check: bool) -> list[_Plan]:
    plans: list[_Plan] = []
    for task in request.tasks:
        spec = task.model_spec
        if not spec.name:
            raise invalid_argument("Found ModelSpec with an empty model name.")
        if spec.name != request.tasks[0].model_spec.name:
            raise invalid_argument("All ModelSpecs in a MultiInferenceRequest must access the same model name.")
        name = spec.signature_name or DEFAULT_SIGNATURE
        if any(plan.signature_name == name for plan in plans):
            raise invalid_argument(f"Duplicate evaluation of signature: {name}")
        signature = servable.signatures.get(name)
        if signature is None:
            raise invalid_argument(f"Requested signature not found in model graph: {name}")
        if task.method_name == CLASSIFY:
            plan = _plan_classify(name, signature, check)
        elif task.method_name == REGRESS:
            plan = _plan_regress(name, signature, check)
        else:
            raise ServingError(Code.UNIMPLEMENTED, f"Unsupported signature method_name: {task.method_name}")
        plans.append(plan)
    return plans
