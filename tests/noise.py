"""What libraries write to a terminal that tells a user of a command nothing."""

import os
import re

NOISE = re.compile(
    r"tensorflow_text"
    r"|oneDNN|cuInit|CUDA|cuda_|cuDNN|cuFFT|cuBLAS|TF-TRT|TensorRT|XLA service|StreamExecutor"
    r"|XNNPACK|TensorFlow Lite"
    r"|computation_placer|cpu_feature_guard|rebuild TensorFlow|absl::InitializeLog"
    r"|^\s*\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+: [IWEF] "
    r"|^[IWEF]\d{4} \d\d:\d\d:\d\d"
    r"|^(INFO|WARNING|ERROR):(absl|apache_beam|root|tensorflow)"
    r"|(Deprecation|Future|User|Runtime)Warning\b",
    re.MULTILINE,
)


def noise_in(said: str) -> list[str]:
    """Return the lines of an output that are noise."""
    return [line for line in said.splitlines() if NOISE.search(line)]


def a_readers_environment() -> dict[str, str]:
    """Return this process's variables without those by which tests keep TensorFlow quiet."""
    ours = ("TF_CPP_MIN_LOG_LEVEL", "CUDA_VISIBLE_DEVICES")
    return {name: value for name, value in os.environ.items() if name not in ours}
