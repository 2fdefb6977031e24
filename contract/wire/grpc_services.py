"""The services that every gRPC server has: health, and reflection for tools such as grpcurl.

Source: github.com/grpc/grpc, src/proto/grpc/{health,reflection}. Version 1 of reflection has the
same messages as its first version, under another package.
"""

from contract.wire.descriptors import add_file, enum, message, message_class, service

REFLECTION_PACKAGES = ("grpc.reflection.v1", "grpc.reflection.v1alpha")

_HEALTH = "grpc.health.v1.HealthCheck"
_PAIR = (f"{_HEALTH}Request", f"{_HEALTH}Response")

add_file(
    "grpc/health/v1/health.proto",
    "grpc.health.v1",
    [
        message("HealthCheckRequest", service=(1, "string")),
        message(
            "HealthCheckResponse",
            inner=[enum("ServingStatus", UNKNOWN=0, SERVING=1, NOT_SERVING=2, SERVICE_UNKNOWN=3)],
            status=(1, f"{_HEALTH}Response.ServingStatus"),
        ),
    ],
    [service("Health", streams=["Watch"], Check=_PAIR, Watch=_PAIR)],
)


def _reflection(package: str) -> None:
    add_file(
        f"{package.replace('.', '/')}/reflection.proto",
        package,
        [
            message(
                "ServerReflectionRequest",
                oneofs={
                    "message_request": (
                        *("file_by_filename", "file_containing_symbol", "list_services"),
                        *("file_containing_extension", "all_extension_numbers_of_type"),
                    )
                },
                host=(1, "string"),
                file_by_filename=(3, "string"),
                file_containing_symbol=(4, "string"),
                file_containing_extension=(5, f"{package}.ExtensionRequest"),
                all_extension_numbers_of_type=(6, "string"),
                list_services=(7, "string"),
            ),
            message(
                "ExtensionRequest", containing_type=(1, "string"), extension_number=(2, "int32")
            ),
            message("FileDescriptorResponse", file_descriptor_proto=(1, "repeated bytes")),
            message("ServiceResponse", name=(1, "string")),
            message("ListServiceResponse", service=(1, f"repeated {package}.ServiceResponse")),
            message("ErrorResponse", error_code=(1, "int32"), error_message=(2, "string")),
            message(
                "ServerReflectionResponse",
                oneofs={
                    "message_response": (
                        *("file_descriptor_response", "list_services_response"),
                        "error_response",
                    )
                },
                valid_host=(1, "string"),
                original_request=(2, f"{package}.ServerReflectionRequest"),
                file_descriptor_response=(4, f"{package}.FileDescriptorResponse"),
                list_services_response=(6, f"{package}.ListServiceResponse"),
                error_response=(7, f"{package}.ErrorResponse"),
            ),
        ],
        [
            service(
                "ServerReflection",
                streams=["*ServerReflectionInfo"],
                ServerReflectionInfo=(
                    f"{package}.ServerReflectionRequest",
                    f"{package}.ServerReflectionResponse",
                ),
            )
        ],
    )


for name in REFLECTION_PACKAGES:
    _reflection(name)

HealthCheckRequest = message_class(f"{_HEALTH}Request")
HealthCheckResponse = message_class(f"{_HEALTH}Response")
