"""Predict: named tensors in, named tensors out."""

from collections.abc import Iterable, Mapping, Sequence

from tensorflow.core.framework import tensor_pb2
from tensorflow_serving.apis import predict_pb2

from serving.local.calls.version_call import VersionCall
from serving.local.errors import Code, ServingError, failed_precondition, invalid_argument
from serving.local.model.servable import DEFAULT_SIGNATURE, SignatureDef
from serving.local.tensors import Array, TensorError, fill_proto, to_array

METHODS = tuple(f"tensorflow/serving/{method}" for method in ("predict", "classify", "regress"))


def predict(call: VersionCall, request: predict_pb2.PredictRequest) -> predict_pb2.PredictResponse:
    """Answers one request on one version.

    Raises:
        ServingError: A mistake of the caller, in the stock server's words.
        tf.errors.OpError: From the graph.
    """
    name = request.model_spec.signature_name or DEFAULT_SIGNATURE
    signature = call.servable.signatures.get(name)
    if signature is None:
        raise failed_precondition(f'Serving signature key "{name}" not found.')
    if call.check_method and signature.method_name not in METHODS:
        raise ServingError(
            Code.INTERNAL,
            f"Expected prediction signature method_name to be one of {METHODS}. Was: {signature.method_name}",
        )
    feeds = _feeds(signature, request.inputs)
    aliases = _aliases(signature, request.output_filter)
    arrays = call.run(feeds, [signature.outputs[alias].name for alias in aliases])
    response = predict_pb2.PredictResponse()
    call.fill_spec(response.model_spec, name)
    for alias, array in zip(aliases, arrays, strict=True):
        fill_proto(array, response.outputs[alias], as_content=call.as_content)
    return response


def _joined(names: Iterable[str]) -> str:
    return "{" + ",".join(sorted(names)) + "}"


def _feeds(signature: SignatureDef, inputs: Mapping[str, tensor_pb2.TensorProto]) -> dict[str, Array]:
    wanted, defaults = signature.inputs, signature.defaults
    if len(inputs) > len(wanted) or (len(inputs) < len(wanted) and not defaults):
        sent = set(inputs)
        raise invalid_argument(
            f"input size does not match signature: {len(sent)}!={len(wanted)} len({_joined(sent)}) != "
            f"len({_joined(wanted)}). Sent extra: {_joined(sent - set(wanted))}. "
            f"Missing but required: {_joined(set(wanted) - sent)}."
        )
    feeds = {}
    for alias in sorted(wanted):
        name = wanted[alias].name
        if alias not in inputs and alias not in defaults:
            raise invalid_argument(
                f"Signature input alias: {alias}(feed name: {name}) not found in request and no default value "
                f"provided. Inputs expected to be in the request {_joined(inputs)}, or default input alias set: "
                f"{','.join(sorted(defaults))}"
            )
        try:
            feeds[name] = to_array(inputs[alias] if alias in inputs else defaults[alias])
        except (TensorError, MemoryError) as error:
            raise invalid_argument(f"tensor parsing error: {alias}") from error
    return feeds


def _aliases(signature: SignatureDef, output_filter: Sequence[str]) -> list[str]:
    """The outputs to fetch, all when none is named."""
    aliases = list(output_filter)
    for alias in aliases:
        if alias not in signature.outputs:
            raise invalid_argument(
                f"output tensor alias not found in signature: {alias} Outputs expected to be in the set "
                f"{_joined(signature.outputs)}."
            )
        if aliases.count(alias) > 1:
            raise invalid_argument(f"duplicate output tensor alias: {alias}")
    return aliases or sorted(signature.outputs)
