"""The files that configure TensorFlow Serving's model server, as messages.

They are written by people in protobuf's text format: which models to serve, how to batch, where
Prometheus asks, certificates. Source: github.com/tensorflow/serving,
tensorflow_serving/config/*.proto and servables/tensorflow/session_bundle_config.proto. What the
public package `tensorflow-serving-api` has of them is in one file here, which
`tests/integration/server/test_grpc.py` compares with it; the rest is in another one.
"""

from contract.wire.descriptors import add_file, enum, message, message_class

_POLICY = "tensorflow.serving.FileSystemStoragePathSourceConfig.ServableVersionPolicy"

_MODELS = (
    enum("ModelType", MODEL_TYPE_UNSPECIFIED=0, TENSORFLOW=1, OTHER=2),
    message("LogCollectorConfig", type=(1, "string"), filename_prefix=(2, "string")),
    message("SamplingConfig", sampling_rate=(1, "double")),
    message(
        "LoggingConfig",
        log_collector_config=(1, "tensorflow.serving.LogCollectorConfig"),
        sampling_config=(2, "tensorflow.serving.SamplingConfig"),
    ),
    message(
        "FileSystemStoragePathSourceConfig",
        inner=[
            message(
                "ServableVersionPolicy",
                inner=[
                    message("Latest", num_versions=(1, "uint32")),
                    message("All"),
                    message("Specific", versions=(1, "repeated int64")),
                ],
                oneofs={"policy_choice": ("latest", "all", "specific")},
                latest=(100, f"{_POLICY}.Latest"),
                all=(101, f"{_POLICY}.All"),
                specific=(102, f"{_POLICY}.Specific"),
            )
        ],
    ),
    message(
        "ModelConfig",
        name=(1, "string"),
        base_path=(2, "string"),
        model_type=(3, "tensorflow.serving.ModelType"),
        model_platform=(4, "string"),
        logging_config=(6, "tensorflow.serving.LoggingConfig"),
        model_version_policy=(7, _POLICY),
        version_labels=(8, "map int64"),
    ),
    message("ModelConfigList", config=(1, "repeated tensorflow.serving.ModelConfig")),
    message(
        "ModelServerConfig",
        oneofs={"config": ("model_config_list", "custom_model_config")},
        model_config_list=(1, "tensorflow.serving.ModelConfigList"),
        custom_model_config=(2, "google.protobuf.Any"),
    ),
)

_FILES = (
    message(
        "BatchingParameters",
        max_batch_size=(1, "google.protobuf.Int64Value"),
        batch_timeout_micros=(2, "google.protobuf.Int64Value"),
        max_enqueued_batches=(3, "google.protobuf.Int64Value"),
        num_batch_threads=(4, "google.protobuf.Int64Value"),
        thread_pool_name=(5, "google.protobuf.StringValue"),
        allowed_batch_sizes=(6, "repeated int64"),
        pad_variable_length_inputs=(7, "bool"),
        enable_large_batch_splitting=(8, "google.protobuf.BoolValue"),
        max_execution_batch_size=(9, "google.protobuf.Int64Value"),
    ),
    message("PrometheusConfig", enable=(1, "bool"), path=(2, "string")),
    message("MonitoringConfig", prometheus_config=(1, "tensorflow.serving.PrometheusConfig")),
    message(
        "SSLConfig",
        server_key=(1, "string"),
        server_cert=(2, "string"),
        custom_ca=(3, "string"),
        client_verify=(4, "bool"),
    ),
)

add_file("tensorflow_serving/config.proto", "tensorflow.serving", _MODELS)
add_file("tensorflow_serving/files.proto", "tensorflow.serving", _FILES)

ModelServerConfig = message_class("tensorflow.serving.ModelServerConfig")
BatchingParameters = message_class("tensorflow.serving.BatchingParameters")
MonitoringConfig = message_class("tensorflow.serving.MonitoringConfig")
SSLConfig = message_class("tensorflow.serving.SSLConfig")
