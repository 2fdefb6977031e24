"""Server reflection, versions 1 and 1 alpha: what tools such as grpcurl ask a server for.

Source: github.com/grpc/grpc, doc/server-reflection.md.
"""

from collections.abc import AsyncIterator, Sequence
from typing import Any

import grpc
from google.protobuf import descriptor_pb2
from google.protobuf.message import DecodeError
from grpc import StatusCode, aio

from contract.wire.descriptors import POOL, message_class
from contract.wire.grpc_services import REFLECTION_PACKAGES
from serving.server.grpc.calls import Calls
from serving.server.grpc.statuses import CallError

SERVICES = tuple(f"{package}.ServerReflection" for package in REFLECTION_PACKAGES)


class Reflection:
    """Answers from the pool of messages."""

    def __init__(self, calls: Calls, services: Sequence[str]) -> None:
        self._calls, self._services = calls, sorted({*services, *SERVICES})

    def handlers(self) -> list[grpc.GenericRpcHandler]:
        """Return what gRPC needs to serve both versions."""
        return [self._handler(package) for package in REFLECTION_PACKAGES]

    def _handler(self, package: str) -> grpc.GenericRpcHandler:
        request_class = message_class(f"{package}.ServerReflectionRequest")
        answer_class = message_class(f"{package}.ServerReflectionResponse")

        async def info(
            messages: AsyncIterator[bytes], context: "aio.ServicerContext[Any, Any]"
        ) -> AsyncIterator[bytes]:
            try:
                self._calls.check_token(dict(context.invocation_metadata() or ()))
            except CallError as error:
                await context.abort(error.code, str(error))
            async for message in messages:
                try:
                    request = request_class.FromString(message)
                except DecodeError:
                    words = "the message is not a ServerReflectionRequest"
                    await context.abort(StatusCode.INVALID_ARGUMENT, words)
                    return
                answer = answer_class(valid_host=request.host, original_request=request)
                self._fill(answer, request)
                yield answer.SerializeToString()

        method = {"ServerReflectionInfo": grpc.stream_stream_rpc_method_handler(info)}
        return grpc.method_handlers_generic_handler(f"{package}.ServerReflection", method)

    def _fill(self, answer: Any, request: Any) -> None:
        asked = request.WhichOneof("message_request")
        if asked == "list_services":
            for name in self._services:
                answer.list_services_response.service.add(name=name)
            return
        try:
            if asked == "file_by_filename":
                file = POOL.FindFileByName(request.file_by_filename)
            elif asked == "file_containing_symbol":
                file = POOL.FindFileContainingSymbol(request.file_containing_symbol)
            else:
                answer.error_response.error_code = StatusCode.UNIMPLEMENTED.value[0]
                answer.error_response.error_message = "there are no extensions in proto3"
                return
        except KeyError as error:
            answer.error_response.error_code = StatusCode.NOT_FOUND.value[0]
            answer.error_response.error_message = str(error)[:200]
            return
        answer.file_descriptor_response.file_descriptor_proto.extend(_with_dependencies(file))


def _with_dependencies(file: Any) -> list[bytes]:
    """Return a file and all that it needs, each once."""
    found: dict[str, bytes] = {}
    waiting = [file]
    while waiting:
        one = waiting.pop()
        if one.name not in found:
            proto = descriptor_pb2.FileDescriptorProto()
            one.CopyToProto(proto)
            found[one.name] = proto.SerializeToString()
            waiting.extend(one.dependencies)
    return list(found.values())
