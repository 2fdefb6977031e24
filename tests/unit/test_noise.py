"""The lines that tests of commands take for noise."""

import pytest
from noise import noise_in


@pytest.mark.parametrize(
    "line",
    [
        "2026-11-29 10:00:00.123456: I tensorflow/core/platform/cpu_feature_guard.cc:210] This",
        "2026-11-29 10:00:00.123456: E external/local_xla/xla/stream_executor/cuda/cuda_platform",
        "WARNING: All log messages before absl::InitializeLog() is called are written to STDERR",
        "E0000 00:00:1764410000.1 123 cuda_dnn.cc:8310] Unable to register cuDNN factory",
        "I0000 00:00:1764410000.1 123 port.cc:153] oneDNN custom operations are on.",
        "INFO:tensorflow:tensorflow_text is not available.",
        "WARNING:apache_beam.io.tfrecordio:Couldn't find python-snappy",
        "INFO: Created TensorFlow Lite XNNPACK delegate for CPU.",
        "/x/y.py:3: DeprecationWarning: pkg_resources is deprecated",
    ],
)
def test_what_libraries_write_is_noise(line: str) -> None:
    assert noise_in(f"error: no such pipeline\n{line}\n") == [line]


@pytest.mark.parametrize(
    "line",
    [
        "transform: done in 3.2 s: 16 features, 1,024 examples",
        "warning: model.py: build_model: head 'y' is never below 0",
        "error: transform failed with exit code 2",
    ],
)
def test_what_slipway_says_is_not(line: str) -> None:
    assert noise_in(line) == []
