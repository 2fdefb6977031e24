"""The Open Inference Protocol's messages and its service, version 2.

Source: github.com/kserve/open-inference-protocol, specification/protocol/open_inference_grpc.proto.
"""

from typing import Any

from contract.wire.descriptors import add_file, message, message_class, service

_PARAMETERS = "map inference.InferParameter"
_TENSOR: dict[str, Any] = {
    "name": (1, "string"),
    "datatype": (2, "string"),
    "shape": (3, "repeated int64"),
    "parameters": (4, _PARAMETERS),
    "contents": (5, "inference.InferTensorContents"),
}
_MODEL: dict[str, Any] = {"name": (1, "string"), "version": (2, "string")}
_METADATA = "inference.ModelMetadataResponse.TensorMetadata"

_MESSAGES = (
    message("ServerLiveRequest"),
    message("ServerLiveResponse", live=(1, "bool")),
    message("ServerReadyRequest"),
    message("ServerReadyResponse", ready=(1, "bool")),
    message("ModelReadyRequest", **_MODEL),
    message("ModelReadyResponse", ready=(1, "bool")),
    message("ServerMetadataRequest"),
    message("ServerMetadataResponse", **_MODEL, extensions=(3, "repeated string")),
    message("ModelMetadataRequest", **_MODEL),
    message(
        "ModelMetadataResponse",
        inner=[
            message(
                "TensorMetadata",
                name=(1, "string"),
                datatype=(2, "string"),
                shape=(3, "repeated int64"),
            )
        ],
        name=(1, "string"),
        versions=(2, "repeated string"),
        platform=(3, "string"),
        inputs=(4, f"repeated {_METADATA}"),
        outputs=(5, f"repeated {_METADATA}"),
        properties=(6, "map string"),
    ),
    message(
        "ModelInferRequest",
        inner=[
            message("InferInputTensor", **_TENSOR),
            message("InferRequestedOutputTensor", name=(1, "string"), parameters=(2, _PARAMETERS)),
        ],
        model_name=(1, "string"),
        model_version=(2, "string"),
        id=(3, "string"),
        parameters=(4, _PARAMETERS),
        inputs=(5, "repeated inference.ModelInferRequest.InferInputTensor"),
        outputs=(6, "repeated inference.ModelInferRequest.InferRequestedOutputTensor"),
        raw_input_contents=(7, "repeated bytes"),
    ),
    message(
        "ModelInferResponse",
        inner=[message("InferOutputTensor", **_TENSOR)],
        model_name=(1, "string"),
        model_version=(2, "string"),
        id=(3, "string"),
        parameters=(4, _PARAMETERS),
        outputs=(5, "repeated inference.ModelInferResponse.InferOutputTensor"),
        raw_output_contents=(6, "repeated bytes"),
    ),
    message(
        "InferParameter",
        oneofs={
            "parameter_choice": (
                *("bool_param", "int64_param", "string_param", "double_param", "uint64_param"),
            )
        },
        bool_param=(1, "bool"),
        int64_param=(2, "int64"),
        string_param=(3, "string"),
        double_param=(4, "double"),
        uint64_param=(5, "uint64"),
    ),
    message(
        "InferTensorContents",
        bool_contents=(1, "repeated bool"),
        int_contents=(2, "repeated int32"),
        int64_contents=(3, "repeated int64"),
        uint_contents=(4, "repeated uint32"),
        uint64_contents=(5, "repeated uint64"),
        fp32_contents=(6, "repeated float"),
        fp64_contents=(7, "repeated double"),
        bytes_contents=(8, "repeated bytes"),
    ),
)
_METHODS: tuple[str, ...] = (
    "ServerLive",
    "ServerReady",
    "ModelReady",
    "ServerMetadata",
    "ModelMetadata",
)
_PAIRS: dict[str, Any] = {
    name: (f"inference.{name}Request", f"inference.{name}Response")
    for name in (*_METHODS, "ModelInfer")
}

add_file(
    "open_inference_grpc.proto",
    "inference",
    _MESSAGES,
    [
        service(
            "GRPCInferenceService",
            **_PAIRS,
        )
    ],
)

ModelInferRequest = message_class("inference.ModelInferRequest")
ModelInferResponse = message_class("inference.ModelInferResponse")
ModelMetadataRequest = message_class("inference.ModelMetadataRequest")
ModelMetadataResponse = message_class("inference.ModelMetadataResponse")
ModelReadyRequest = message_class("inference.ModelReadyRequest")
ModelReadyResponse = message_class("inference.ModelReadyResponse")
ServerLiveRequest = message_class("inference.ServerLiveRequest")
ServerLiveResponse = message_class("inference.ServerLiveResponse")
ServerMetadataRequest = message_class("inference.ServerMetadataRequest")
ServerMetadataResponse = message_class("inference.ServerMetadataResponse")
ServerReadyRequest = message_class("inference.ServerReadyRequest")
ServerReadyResponse = message_class("inference.ServerReadyResponse")
