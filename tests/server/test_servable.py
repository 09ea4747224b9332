"""A loaded version answers the same in TensorFlow's threads and, on a busy server, in its caller's."""

from __future__ import annotations

import pathlib
import time

import numpy as np
import pytest
from tensorflow.core.protobuf import config_pb2

from serving.local.deadline import Deadline
from serving.local.model import savedmodel, servable
from serving.local.tensors import to_array
from tests.conformance.pair import predict_request


def test_a_busy_server_runs_short_calls_in_their_own_thread(
    pair_models: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = servable.Servable(savedmodel.load(pair_models / "1", ["serve"], config_pb2.ConfigProto()))
    signature = version.signatures["serving_default"]
    inputs = predict_request(rows=4).inputs
    feeds = {signature.inputs[name].name: to_array(proto) for name, proto in inputs.items()}
    seen: list[object] = []
    call = version._call
    monkeypatch.setattr(version, "_call", lambda options, *rest: (seen.append(options), call(options, *rest))[1])

    def run() -> np.ndarray:
        return version.run(feeds, [signature.outputs["probabilities"].name], Deadline.after(30))[0]

    monkeypatch.setattr(servable, "_CORES", 2)
    alone = [run(), run()]
    monkeypatch.setattr(servable, "_CORES", 1)
    busy = run()
    monkeypatch.setattr(
        version, "_call", lambda *given: (seen.append(given[0]), time.sleep(servable.SHORT_SECONDS), call(*given))[2]
    )
    long = [run(), run()]
    here = servable._IN_THIS_THREAD
    assert [options is here for options in seen] == [False, False, True, True, False]
    for result in (alone[1], busy, *long):
        np.testing.assert_array_equal(result, alone[0])
    version.close()
