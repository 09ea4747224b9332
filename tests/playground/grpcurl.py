"""Stands in for grpcurl, which no package brings: the same arguments, the same JSON, the same call.

grpcurl -plaintext -protoset FILE -d @ HOST:PORT SERVICE/METHOD < request.json
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory


def main() -> None:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("-plaintext", action="store_true", required=True)
    parser.add_argument("-protoset", type=Path, required=True)
    parser.add_argument("-d", choices=["@"], required=True)
    parser.add_argument("address")
    parser.add_argument("method")
    options = parser.parse_args()
    pool = descriptor_pool.DescriptorPool()
    for file in descriptor_pb2.FileDescriptorSet.FromString(options.protoset.read_bytes()).file:
        pool.Add(file)
    service, name = options.method.split("/")
    method = pool.FindServiceByName(service).methods_by_name[name]
    request = json_format.ParseDict({}, message_factory.GetMessageClass(method.input_type)())
    json_format.Parse(sys.stdin.read(), request)
    with grpc.insecure_channel(options.address) as channel:
        reply = channel.unary_unary(f"/{options.method}")(request.SerializeToString(), timeout=20)
    sys.stdout.write(json_format.MessageToJson(message_factory.GetMessageClass(method.output_type).FromString(reply)))


main()
