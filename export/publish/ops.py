"""The operations that a signature runs, and those that a stock CPU server must not run."""

from collections.abc import Iterable, Iterator
from typing import Final

from tensorflow.core.framework import attr_value_pb2, node_def_pb2
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow.python.framework import kernels

_RUNS_PYTHON: Final = {"PyFunc", "PyFuncStateless", "EagerPyFunc", "NumpyFunc"}

_TOUCHES_FILES: Final = {
    "ReadFile", "WriteFile", "MatchingFiles", "WholeFileReader", "WholeFileReaderV2", "TextLineReader",
    "TextLineReaderV2", "FixedLengthRecordReader", "FixedLengthRecordReaderV2", "TFRecordReader", "TFRecordReaderV2",
    "LMDBReader", "TextLineDataset", "TFRecordDataset", "TFRecordDatasetV2", "FixedLengthRecordDataset",
    "FixedLengthRecordDatasetV2", "SqlDataset", "LMDBDataset", "SaveDataset", "SaveDatasetV2", "LoadDataset",
    "MatchingFilesDataset", "SnapshotDataset", "SnapshotDatasetV2", "CacheDataset", "CacheDatasetV2", "PrintV2",
    "Save", "SaveV2", "SaveSlices", "Restore", "RestoreV2", "RestoreSlice", "ShardedFilename", "MergeV2Checkpoints",
    "InitializeTableFromTextFile", "InitializeTableFromTextFileV2", "DebugIdentityV2", "DebugIdentityV3",
    "CreateSummaryFileWriter", "WriteSummary", "WriteGraphSummary", "WriteRawProtoSummary",
    "IgniteDataset", "BigQueryReader", "DataServiceDataset", "DataServiceDatasetV2", "DataServiceDatasetV3",
    "DataServiceDatasetV4", "RpcCall", "RpcClient", "RpcServer",
}  # fmt: skip
"""Operations that open files or sockets. A model that needs none can be served without egress,
from a read-only file system, and is no way into the machine."""

_WHEN_RESTORING: Final = {"RestoreV2", "ShardedFilename"}
_WHEN_STARTING: Final = {"InitializeTableFromTextFile", "InitializeTableFromTextFileV2"}
"""A vocabulary file is an asset of the SavedModel, read once."""

_NO_KERNEL: Final = {"NoOp", "Placeholder", "PlaceholderWithDefault", "Const", "_Arg", "_Retval", "_DeviceRetval"}


def forbidden_ops(meta_graph: meta_graph_pb2.MetaGraphDef, signatures: Iterable[str]) -> list[str]:
    """The operations of the signatures, the initialisation and the restore that a stock CPU server must not run.

    Returns:
        One line for each operation: its name, where it was found, and why it is refused.
    """
    main = meta_graph.collection_def.get("saved_model_main_op")
    starts = [] if main is None else list(main.node_list.value)
    roots = [(name, _outputs(meta_graph, name), set[str]()) for name in signatures]
    roots.append(("the start", starts + _outputs(meta_graph, "__saved_model_init_op"), _WHEN_STARTING))
    roots.append(("the restoring", [meta_graph.saver_def.restore_op_name], _WHEN_RESTORING))
    return [
        f"{op}, in {place}: {reason}"
        for place, names, allowed in roots
        for op in sorted(reachable(meta_graph, names) - allowed)
        if (reason := _reason(op))
    ]


def _outputs(meta_graph: meta_graph_pb2.MetaGraphDef, signature: str) -> list[str]:
    if signature not in meta_graph.signature_def:
        return []
    return [info.name for info in meta_graph.signature_def[signature].outputs.values()]


def _reason(op: str) -> str | None:
    if op in _RUNS_PYTHON:
        return "it runs Python, which the server lacks"
    if op in _TOUCHES_FILES:
        return "it reads or writes files or the network"
    if "Cudnn" in op:
        return "it needs a GPU with cuDNN (build the layer with use_cudnn=False)"
    if op in _NO_KERNEL:
        return None
    devices = {kernel.device_type for kernel in kernels.get_registered_kernels_for_op(op).kernel}
    if not devices:
        return "TensorFlow and TensorFlow Text have no such operation"
    if not devices & {"CPU", "DEFAULT"}:
        return f"it runs on {', '.join(sorted(devices))} only"
    return None


def reachable(meta_graph: meta_graph_pb2.MetaGraphDef, tensors: Iterable[str]) -> set[str]:
    """Names of the operations that have to run for these tensors, in functions too."""
    nodes = {node.name: node for node in meta_graph.graph_def.node}
    functions = {each.signature.name: each for each in meta_graph.graph_def.library.function}
    reached: dict[str, node_def_pb2.NodeDef] = {}
    ahead = list(map(_node_name, tensors))
    while ahead:
        name = ahead.pop()
        if name in nodes and name not in reached:
            reached[name] = nodes[name]
            ahead += map(_node_name, nodes[name].input)
    pending, entered, ops = list(reached.values()), set[str](), set[str]()
    while pending:
        node = pending.pop()
        if node.op not in functions:
            ops.add(node.op)
        called = ({node.op, *_called(node.attr.values())} & functions.keys()) - entered
        entered |= called
        for name in called:
            pending += functions[name].node_def
    return ops


def _called(attributes: Iterable[attr_value_pb2.AttrValue]) -> Iterator[str]:
    for value in attributes:
        if value.HasField("func"):
            yield value.func.name
            yield from _called(value.func.attr.values())
        for function in value.list.func:
            yield function.name


def _node_name(tensor: str) -> str:
    return tensor.removeprefix("^").split(":")[0]
