"""A gRPC client that resolves servers through xDS: an input line is a call, its result a JSON line.

It is a program of its own because the library reads its bootstrap once per process.
"""

from __future__ import annotations

import json
import sys

import grpc

METHOD = "/test.Echo/Say"


def main() -> None:
    target, seconds = sys.argv[1], float(sys.argv[2])
    with grpc.insecure_channel(target) as channel:
        say = channel.unary_unary(METHOD, request_serializer=None, response_deserializer=None)
        for line in sys.stdin:
            try:
                found = {"answer": say(line.strip().encode(), timeout=seconds).decode()}
            except grpc.RpcError as error:
                found = {"error": error.code().name, "details": error.details()}
            sys.stdout.write(json.dumps(found) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
