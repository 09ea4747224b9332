"""Loads a SavedModel into a TF1 Session by the rules of the C++ loader that the stock server uses.

Python's loaders differ: they fail where the stock server continues (no `variables/`) and continue
where it fails. A load that fails there must fail here, at the same step.
"""

import contextlib
import copy
import logging
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import tensorflow as tf
import tensorflow_text  # noqa: F401 - registers the TF Text ops, which the stock server links
from google.protobuf import message, text_format
from tensorflow.core.protobuf import config_pb2, meta_graph_pb2, saved_model_pb2
from tensorflow.python.saved_model.pywrap_saved_model import fingerprinting

from duoserve.artifact.releases import ReleaseError, minor_release
from serving.local.errors import Code, ServingError, invalid_argument, not_found

Signatures: TypeAlias = "Mapping[str, meta_graph_pb2.SignatureDef]"

_LOG = logging.getLogger(__name__)
_INIT_SIGNATURE = "__saved_model_init_op"
_INIT_COLLECTIONS = ("saved_model_main_op", "legacy_init_op")


def load(export_dir: pathlib.Path, tags: Sequence[str], config: config_pb2.ConfigProto) -> tuple[Any, Signatures]:
    """A Session with the meta graph that has these tags, restored and initialised; and its signatures.

    Raises:
        ServingError: With the stock server's code and message.
        tf.errors.OpError: From the restore or the initialisation.
    """
    meta_graph = _find_meta_graph(_read(export_dir), tags)
    written = meta_graph.meta_info_def.tensorflow_version
    with contextlib.suppress(ReleaseError):  # other tools write anything there
        if minor_release(written) > minor_release(tf.__version__):
            # Only a warning: the stock server does not look, and fails when it lacks an operation.
            _LOG.warning("%s: written by TensorFlow %s, newer than this server's", export_dir, written)
    graph = tf.Graph()
    with graph.as_default():
        try:
            tf.import_graph_def(meta_graph.graph_def, name="")
        except ValueError as error:
            code = Code.NOT_FOUND if "not registered" in str(error) else Code.INVALID_ARGUMENT
            raise ServingError(code, str(error)) from error
    session = tf.compat.v1.Session(graph=graph, config=config)
    try:
        assets = _asset_feeds(meta_graph, export_dir)
        prefix, saver = export_dir / "variables" / "variables", meta_graph.saver_def
        if meta_graph.HasField("saver_def") and prefix.with_suffix(".index").exists():
            session.run(saver.restore_op_name, {saver.filename_tensor_name: str(prefix), **assets})
        elif meta_graph.HasField("saver_def"):
            # As the stock server: not an error, a model may have none. Then every call fails.
            _LOG.warning("No variables restored for %s: there is no variables/variables.index", export_dir)
        if op := _init_op(meta_graph):
            session.run(op, assets)
        # Nothing adds to the graph any more, so Session.run need not look.
        graph.finalize()
    except BaseException:
        session.close()
        raise
    # Copies: a part of a message keeps the whole in memory, here the graph and its constants.
    return session, {name: copy.deepcopy(signature) for name, signature in meta_graph.signature_def.items()}


def _read(export_dir: pathlib.Path) -> saved_model_pb2.SavedModel:
    binary, text = export_dir / "saved_model.pb", export_dir / "saved_model.pbtxt"
    try:
        if binary.exists():
            return saved_model_pb2.SavedModel.FromString(binary.read_bytes())
        if text.exists():
            return text_format.Parse(text.read_text(encoding="utf-8"), saved_model_pb2.SavedModel())
    except message.DecodeError as error:
        raise _unreadable(export_dir) from error
    except text_format.ParseError as error:
        raise ServingError(Code.DATA_LOSS, f"Can't parse {text} as text proto") from error
    except OSError as error:
        raise ServingError(Code.UNAVAILABLE, f"{export_dir}: {error.strerror or error}") from error
    raise not_found(f"Could not find SavedModel .pb or .pbtxt at supplied export directory path: {export_dir}")


def _unreadable(export_dir: pathlib.Path) -> ServingError:
    """Cut off or corrupt? The C++ reader decides, as in the stock server."""
    try:
        fingerprinting.CreateFingerprintDef(str(export_dir))
    except fingerprinting.FingerprintException as error:
        code, _, text = str(error).partition("\n")[2].partition(": ")
        return ServingError(getattr(Code, code), text)
    return ServingError(Code.DATA_LOSS, f"Can't parse {export_dir / 'saved_model.pb'} as binary proto")


def _find_meta_graph(model: saved_model_pb2.SavedModel, tags: Sequence[str]) -> meta_graph_pb2.MetaGraphDef:
    for meta_graph in model.meta_graphs:
        if set(meta_graph.meta_info_def.tags) == set(tags):
            return meta_graph
    raise not_found(f"Could not find meta graph def matching supplied tags: {{ {' '.join(tags)} }}")


def _asset_feeds(meta_graph: meta_graph_pb2.MetaGraphDef, export_dir: pathlib.Path) -> dict[str, str]:
    files = list(meta_graph.asset_file_def)
    if not files and "saved_model_assets" in meta_graph.collection_def:
        for packed in meta_graph.collection_def["saved_model_assets"].any_list.value:
            asset = meta_graph_pb2.AssetFileDef()
            packed.Unpack(asset)
            files.append(asset)
    return {asset.tensor_info.name: str(export_dir / "assets" / asset.filename) for asset in files}


def _init_op(meta_graph: meta_graph_pb2.MetaGraphDef) -> str:
    if _INIT_SIGNATURE in meta_graph.signature_def:
        return str(meta_graph.signature_def[_INIT_SIGNATURE].outputs[_INIT_SIGNATURE].name)
    for key in _INIT_COLLECTIONS:
        if key in meta_graph.collection_def:
            ops = meta_graph.collection_def[key].node_list.value
            if len(ops) != 1:
                raise invalid_argument(f"Expected exactly one {key} in the SavedModel. Received: {len(ops)}")
            return str(ops[0])
    return ""
