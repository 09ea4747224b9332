"""Classify, Regress and MultiInference: tf.Examples in, labels and scores or values out."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, Final

from tensorflow.core.framework import types_pb2
from tensorflow_serving.apis import classification_pb2, inference_pb2, input_pb2, model_pb2, regression_pb2

from serving.local.calls.version_call import VersionCall
from serving.local.errors import Code, ServingError, failed_precondition, invalid_argument
from serving.local.model.servable import DEFAULT_SIGNATURE
from serving.local.tensors import Array, dtype_enum, object_array, type_name

CLASSIFY: Final = "tensorflow/serving/classify"
REGRESS: Final = "tensorflow/serving/regress"


@dataclasses.dataclass(frozen=True, slots=True)
class _Task:
    """One signature to run: its tensors by name; `outputs` by the signature's key."""

    signature_name: str
    method: str
    input: str
    outputs: dict[str, str]


def _task(call: VersionCall, spec: model_pb2.ModelSpec, method: str) -> _Task:
    name = spec.signature_name or DEFAULT_SIGNATURE
    signature = call.servable.signatures.get(name)
    if signature is None:
        raise invalid_argument(f"No signature was found with the name: {name}")
    if call.check_method and signature.method_name != method:
        raise invalid_argument(f"Expected signature method_name to be {method}. Was: {signature.method_name}")
    if len(signature.inputs) != 1:
        raise invalid_argument("Expected one input Tensor.")
    keys, complaint, _ = _METHODS[method]
    if not 1 <= len(signature.outputs) <= len(keys):
        raise invalid_argument(complaint)
    outputs = {key: signature.outputs[key].name for key in keys if key in signature.outputs}
    if "inputs" not in signature.inputs or not outputs:
        raise failed_precondition(
            f"Expected an input named inputs and outputs named {' or '.join(keys)}. Received: {signature}"
        )
    return _Task(name, method, signature.inputs["inputs"].name, outputs)


def _run(call: VersionCall, source: input_pb2.Input, tasks: Sequence[_Task]) -> tuple[int, dict[str, Array]]:
    """The number of examples, and the fetched arrays by tensor name."""
    examples = source.example_list.examples or source.example_list_with_context.examples
    if not examples:
        raise invalid_argument("Input is empty.")
    # Empty without a context, which goes before each example.
    context = source.example_list_with_context.context.SerializeToString()
    texts = object_array((context + each.SerializeToString() for each in examples), (len(examples),))
    fetches = sorted({name for task in tasks for name in task.outputs.values()})
    arrays = call.run({task.input: texts for task in tasks}, fetches)
    return len(examples), dict(zip(fetches, arrays, strict=True))


def _checked(array: Array, key: str, enum: int, shape: tuple[int, int]) -> Array:
    if array.shape != shape or dtype_enum(array) != enum:
        raise invalid_argument(
            f"Expected {key} output of {type_name(enum)}, shape {list(shape)}. "
            f"Got: {type_name(dtype_enum(array))}, shape {list(array.shape)}"
        )
    return array


def _classifications(task: _Task, count: int, arrays: dict[str, Array]) -> classification_pb2.ClassificationResult:
    found = {key: arrays[name] for key, name in task.outputs.items()}
    width = max(array.shape[-1] if array.ndim else 0 for array in found.values())
    enums = {"classes": types_pb2.DT_STRING, "scores": types_pb2.DT_FLOAT}
    columns = {key: _checked(array, key, enums[key], (count, width)).tolist() for key, array in found.items()}
    result = classification_pb2.ClassificationResult()
    for row in range(count):
        classes = result.classifications.add().classes
        for column in range(width):
            entry = classes.add()
            if "classes" in columns:
                entry.label = columns["classes"][row][column].decode("utf-8", "replace")
            if "scores" in columns:
                entry.score = columns["scores"][row][column]
    return result


def _regressions(task: _Task, count: int, arrays: dict[str, Array]) -> regression_pb2.RegressionResult:
    array = arrays[task.outputs["outputs"]]
    column = array[:, None] if array.ndim == 1 else array
    result = regression_pb2.RegressionResult()
    for (value,) in _checked(column, "outputs", types_pb2.DT_FLOAT, (count, 1)).tolist():
        result.regressions.add(value=value)
    return result


# The outputs that a method reads, its complaint about any other number of them, and what makes the result.
_METHODS: Final[dict[str, tuple[tuple[str, ...], str, Callable[[_Task, int, dict[str, Array]], Any]]]] = {
    CLASSIFY: (("classes", "scores"), "Expected one or two output Tensors.", _classifications),
    REGRESS: (("outputs",), "Expected one output Tensor.", _regressions),
}


def _single(call: VersionCall, request: Any, method: str, response: Any) -> Any:
    task = _task(call, request.model_spec, method)
    response.result.CopyFrom(_METHODS[method][2](task, *_run(call, request.input, [task])))
    call.fill_spec(response.model_spec, task.signature_name)
    return response


def classify(
    call: VersionCall, request: classification_pb2.ClassificationRequest
) -> classification_pb2.ClassificationResponse:
    """Labels and scores of each example."""
    return _single(call, request, CLASSIFY, classification_pb2.ClassificationResponse())


def regress(call: VersionCall, request: regression_pb2.RegressionRequest) -> regression_pb2.RegressionResponse:
    """A value for each example."""
    return _single(call, request, REGRESS, regression_pb2.RegressionResponse())


def multi_inference(
    call: VersionCall, request: inference_pb2.MultiInferenceRequest
) -> inference_pb2.MultiInferenceResponse:
    """Several classify and regress signatures on the same examples, in one run of the graph."""
    tasks: list[_Task] = []
    for task in request.tasks:
        if task.model_spec.name != call.id.name:
            raise invalid_argument("All ModelSpecs in a MultiInferenceRequest must access the same model name.")
        if task.method_name not in _METHODS:
            raise ServingError(Code.UNIMPLEMENTED, f"Unsupported signature method_name: {task.method_name}")
        tasks.append(_task(call, task.model_spec, task.method_name))
    names = [task.signature_name for task in tasks]
    if len(set(names)) < len(names):
        raise invalid_argument(f"Duplicate evaluation of signature: {names}")
    count, arrays = _run(call, request.input, tasks)
    response = inference_pb2.MultiInferenceResponse()
    for task in tasks:
        result = response.results.add()
        call.fill_spec(result.model_spec, task.signature_name)
        target = result.classification_result if task.method == CLASSIFY else result.regression_result
        target.CopyFrom(_METHODS[task.method][2](task, count, arrays))
    return response
