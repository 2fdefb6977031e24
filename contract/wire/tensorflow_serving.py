"""TensorFlow Serving's messages and services, as far as a server of predictions needs them.

Names and numbers are those of the public interface; `tests/integration/server/test_grpc.py`
compares each with `tensorflow-serving-api`. Source: github.com/tensorflow/serving,
tensorflow_serving/apis/*.proto, and tensorflow/core/{framework,example,protobuf}/*.proto.
"""

from contract.wire import model_server_config  # noqa: F401 (its messages are in some of these)
from contract.wire.descriptors import add_file, enum, message, message_class, service

_TENSORFLOW = (
    enum(
        "DataType",
        **{
            name: number
            for number, name in enumerate(
                (
                    *("DT_INVALID", "DT_FLOAT", "DT_DOUBLE", "DT_INT32", "DT_UINT8", "DT_INT16"),
                    *("DT_INT8", "DT_STRING", "DT_COMPLEX64", "DT_INT64", "DT_BOOL", "DT_QINT8"),
                    *("DT_QUINT8", "DT_QINT32", "DT_BFLOAT16", "DT_QINT16", "DT_QUINT16"),
                    *("DT_UINT16", "DT_COMPLEX128", "DT_HALF", "DT_RESOURCE", "DT_VARIANT"),
                    *("DT_UINT32", "DT_UINT64"),
                )
            )
        },
    ),
    message(
        "TensorShapeProto",
        inner=[message("Dim", size=(1, "int64"), name=(2, "string"))],
        dim=(2, "repeated tensorflow.TensorShapeProto.Dim"),
        unknown_rank=(3, "bool"),
    ),
    message(
        "TensorProto",
        dtype=(1, "tensorflow.DataType"),
        tensor_shape=(2, "tensorflow.TensorShapeProto"),
        version_number=(3, "int32"),
        tensor_content=(4, "bytes"),
        half_val=(13, "repeated int32"),
        float_val=(5, "repeated float"),
        double_val=(6, "repeated double"),
        int_val=(7, "repeated int32"),
        string_val=(8, "repeated bytes"),
        int64_val=(10, "repeated int64"),
        bool_val=(11, "repeated bool"),
        uint32_val=(16, "repeated uint32"),
        uint64_val=(17, "repeated uint64"),
    ),
    message("BytesList", value=(1, "repeated bytes")),
    message("FloatList", value=(1, "repeated float")),
    message("Int64List", value=(1, "repeated int64")),
    message(
        "Feature",
        oneofs={"kind": ("bytes_list", "float_list", "int64_list")},
        bytes_list=(1, "tensorflow.BytesList"),
        float_list=(2, "tensorflow.FloatList"),
        int64_list=(3, "tensorflow.Int64List"),
    ),
    message("Features", feature=(1, "map tensorflow.Feature")),
    message("Example", features=(1, "tensorflow.Features")),
    message(
        "TensorInfo",
        oneofs={"encoding": ("name",)},
        name=(1, "string"),
        dtype=(2, "tensorflow.DataType"),
        tensor_shape=(3, "tensorflow.TensorShapeProto"),
    ),
    message(
        "SignatureDef",
        inputs=(1, "map tensorflow.TensorInfo"),
        outputs=(2, "map tensorflow.TensorInfo"),
        method_name=(3, "string"),
        defaults=(4, "map tensorflow.TensorProto"),
    ),
)

_CODES = enum(
    "Code",
    **{
        name: number
        for number, name in enumerate(
            (
                *("OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED"),
                *("NOT_FOUND", "ALREADY_EXISTS", "PERMISSION_DENIED", "RESOURCE_EXHAUSTED"),
                *("FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED", "INTERNAL"),
                *("UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED"),
            )
        )
    },
)

_SPEC = (1, "tensorflow.serving.ModelSpec")
_SERVING = (
    message(
        "ModelSpec",
        oneofs={"version_choice": ("version", "version_label")},
        name=(1, "string"),
        version=(2, "google.protobuf.Int64Value"),
        version_label=(4, "string"),
        signature_name=(3, "string"),
    ),
    message(
        "PredictRequest",
        model_spec=_SPEC,
        inputs=(2, "map tensorflow.TensorProto"),
        output_filter=(3, "repeated string"),
    ),
    message(
        "PredictResponse",
        outputs=(1, "map tensorflow.TensorProto"),
        model_spec=(2, "tensorflow.serving.ModelSpec"),
    ),
    message("ExampleList", examples=(1, "repeated tensorflow.Example")),
    message(
        "ExampleListWithContext",
        examples=(1, "repeated tensorflow.Example"),
        context=(2, "tensorflow.Example"),
    ),
    message(
        "Input",
        oneofs={"kind": ("example_list", "example_list_with_context")},
        example_list=(1, "tensorflow.serving.ExampleList"),
        example_list_with_context=(2, "tensorflow.serving.ExampleListWithContext"),
    ),
    message("Class", label=(1, "string"), score=(2, "float")),
    message("Classifications", classes=(1, "repeated tensorflow.serving.Class")),
    message(
        "ClassificationResult", classifications=(1, "repeated tensorflow.serving.Classifications")
    ),
    message("ClassificationRequest", model_spec=_SPEC, input=(2, "tensorflow.serving.Input")),
    message(
        "ClassificationResponse",
        result=(1, "tensorflow.serving.ClassificationResult"),
        model_spec=(2, "tensorflow.serving.ModelSpec"),
    ),
    message("Regression", value=(1, "float")),
    message("RegressionResult", regressions=(1, "repeated tensorflow.serving.Regression")),
    message("RegressionRequest", model_spec=_SPEC, input=(2, "tensorflow.serving.Input")),
    message(
        "RegressionResponse",
        result=(1, "tensorflow.serving.RegressionResult"),
        model_spec=(2, "tensorflow.serving.ModelSpec"),
    ),
    message("InferenceTask", model_spec=_SPEC, method_name=(2, "string")),
    message(
        "InferenceResult",
        oneofs={"result": ("classification_result", "regression_result")},
        model_spec=_SPEC,
        classification_result=(2, "tensorflow.serving.ClassificationResult"),
        regression_result=(3, "tensorflow.serving.RegressionResult"),
    ),
    message(
        "MultiInferenceRequest",
        tasks=(1, "repeated tensorflow.serving.InferenceTask"),
        input=(2, "tensorflow.serving.Input"),
    ),
    message("MultiInferenceResponse", results=(1, "repeated tensorflow.serving.InferenceResult")),
    message("SignatureDefMap", signature_def=(1, "map tensorflow.SignatureDef")),
    message("GetModelMetadataRequest", model_spec=_SPEC, metadata_field=(2, "repeated string")),
    message("GetModelMetadataResponse", model_spec=_SPEC, metadata=(2, "map google.protobuf.Any")),
    message("StatusProto", error_code=(1, "tensorflow.error.Code"), error_message=(2, "string")),
    message("GetModelStatusRequest", model_spec=_SPEC),
    message(
        "ModelVersionStatus",
        inner=[enum("State", UNKNOWN=0, START=10, LOADING=20, AVAILABLE=30, UNLOADING=40, END=50)],
        version=(1, "int64"),
        state=(2, "tensorflow.serving.ModelVersionStatus.State"),
        status=(3, "tensorflow.serving.StatusProto"),
    ),
    message(
        "GetModelStatusResponse",
        model_version_status=(1, "repeated tensorflow.serving.ModelVersionStatus"),
    ),
    # What a model brings for its warm-up.
    message("ClassifyLog", request=(1, "tensorflow.serving.ClassificationRequest")),
    message("RegressLog", request=(1, "tensorflow.serving.RegressionRequest")),
    message("PredictLog", request=(1, "tensorflow.serving.PredictRequest")),
    message("MultiInferenceLog", request=(1, "tensorflow.serving.MultiInferenceRequest")),
    message(
        "PredictionLog",
        oneofs={"log_type": ("classify_log", "regress_log", "predict_log", "multi_inference_log")},
        classify_log=(2, "tensorflow.serving.ClassifyLog"),
        regress_log=(3, "tensorflow.serving.RegressLog"),
        predict_log=(6, "tensorflow.serving.PredictLog"),
        multi_inference_log=(4, "tensorflow.serving.MultiInferenceLog"),
    ),
    # Refused unread; described for those who ask what a server has.
    message("SessionRunRequest", model_spec=_SPEC),
    message("SessionRunResponse", model_spec=(3, "tensorflow.serving.ModelSpec")),
    message(
        "ReloadConfigRequest",
        config=(1, "tensorflow.serving.ModelServerConfig"),
        metric_names=(2, "repeated string"),
    ),
    message(
        "Metric",
        oneofs={"value_increase": ("int64_value_increase",)},
        name=(1, "string"),
        int64_value_increase=(2, "int64"),
    ),
    message(
        "ReloadConfigResponse",
        status=(1, "tensorflow.serving.StatusProto"),
        metric=(2, "repeated tensorflow.serving.Metric"),
    ),
)


def _pair(request: str, answer: str) -> tuple[str, str]:
    return f"tensorflow.serving.{request}", f"tensorflow.serving.{answer}"


_SERVICES = (
    service(
        "PredictionService",
        Classify=_pair("ClassificationRequest", "ClassificationResponse"),
        Regress=_pair("RegressionRequest", "RegressionResponse"),
        Predict=_pair("PredictRequest", "PredictResponse"),
        MultiInference=_pair("MultiInferenceRequest", "MultiInferenceResponse"),
        GetModelMetadata=_pair("GetModelMetadataRequest", "GetModelMetadataResponse"),
    ),
    service("SessionService", SessionRun=_pair("SessionRunRequest", "SessionRunResponse")),
    service(
        "ModelService",
        GetModelStatus=_pair("GetModelStatusRequest", "GetModelStatusResponse"),
        HandleReloadConfigRequest=_pair("ReloadConfigRequest", "ReloadConfigResponse"),
    ),
)

add_file("tensorflow/error_codes.proto", "tensorflow.error", [_CODES])
add_file("tensorflow/framework.proto", "tensorflow", _TENSORFLOW)
add_file("tensorflow_serving/apis.proto", "tensorflow.serving", _SERVING, _SERVICES)

# The one field of GetModelMetadata that TensorFlow Serving knows.
SIGNATURE_FIELD = "signature_def"

TensorProto = message_class("tensorflow.TensorProto")
Example = message_class("tensorflow.Example")
SignatureDefMap = message_class("tensorflow.serving.SignatureDefMap")
PredictRequest = message_class("tensorflow.serving.PredictRequest")
PredictResponse = message_class("tensorflow.serving.PredictResponse")
ClassificationRequest = message_class("tensorflow.serving.ClassificationRequest")
ClassificationResponse = message_class("tensorflow.serving.ClassificationResponse")
RegressionRequest = message_class("tensorflow.serving.RegressionRequest")
RegressionResponse = message_class("tensorflow.serving.RegressionResponse")
MultiInferenceRequest = message_class("tensorflow.serving.MultiInferenceRequest")
MultiInferenceResponse = message_class("tensorflow.serving.MultiInferenceResponse")
GetModelMetadataRequest = message_class("tensorflow.serving.GetModelMetadataRequest")
GetModelMetadataResponse = message_class("tensorflow.serving.GetModelMetadataResponse")
GetModelStatusRequest = message_class("tensorflow.serving.GetModelStatusRequest")
GetModelStatusResponse = message_class("tensorflow.serving.GetModelStatusResponse")
PredictionLog = message_class("tensorflow.serving.PredictionLog")
ReloadConfigRequest = message_class("tensorflow.serving.ReloadConfigRequest")
ReloadConfigResponse = message_class("tensorflow.serving.ReloadConfigResponse")
SignatureDef = message_class("tensorflow.SignatureDef")
ModelSpec = message_class("tensorflow.serving.ModelSpec")
