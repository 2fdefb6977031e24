"""The files in protobuf's text format."""

from pathlib import Path

import pytest

from contract.errors import ConfigError
from serving.server.grpc.statuses import CallError
from serving.standalone.configuration import (
    ModelConfig,
    VersionPolicy,
    read_batching,
    read_metrics_path,
    read_models,
)


def written(path: Path, text: str) -> Path:
    file = path / "file.txt"
    file.write_text(text)
    return file


def config(fields: str) -> str:
    return f"model_config_list {{ config {{ {fields} }} }}"


GOOD = 'name: "a" base_path: "/m/a" model_platform: "tensorflow"'


@pytest.mark.parametrize(
    ("fields", "policy"),
    [
        ("", VersionPolicy("latest", 1)),
        ("model_version_policy { latest { num_versions: 3 } }", VersionPolicy("latest", 3)),
        ("model_version_policy { latest { } }", VersionPolicy("latest", 1)),
        ("model_version_policy { all { } }", VersionPolicy("all")),
        (
            "model_version_policy { specific { versions: 42 versions: 43 } }",
            VersionPolicy("specific", versions=(42, 43)),
        ),
    ],
)
def test_each_version_policy_is_read(tmp_path: Path, fields: str, policy: VersionPolicy) -> None:
    (found,) = read_models(written(tmp_path, config(f"{GOOD} {fields}")))
    assert found == ModelConfig("a", Path("/m/a"), policy)


def test_labels_are_read_as_tensorflow_serving_documents_them(tmp_path: Path) -> None:
    labels = "version_labels { key: 'stable' value: 42 } version_labels { key: 'canary' value: 43 }"
    (found,) = read_models(written(tmp_path, config(f"{GOOD} {labels}")))
    assert found.labels == {"stable": 42, "canary": 43}


def test_a_file_that_is_no_model_config_is_refused_as_the_real_program_words_it(
    tmp_path: Path,
) -> None:
    words = "Error parsing text-format tensorflow.serving.ModelServerConfig: .*file.txt: 1:1"
    with pytest.raises(ConfigError, match=words):
        read_models(written(tmp_path, "improperly formatted file\n"))


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.txt: cannot be read: .*No such file"):
        read_models(tmp_path / "none.txt")


TWICE = f"model_config_list {{ config {{ {GOOD} }} config {{ {GOOD} }} }}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (TWICE, "Illegal to list model a multiple times in config list"),
        (
            config('name: "a" base_path: "m/a" model_platform: "tensorflow"'),
            r"Expected model a to have an absolute path; got base_path\(\)=m/a",
        ),
        (
            config('name: "a" base_path: "gs://m/a" model_platform: "tensorflow"'),
            r"addresses such as gs:// are not supported",
        ),
        (config('name: "a" base_path: "/m"'), "Illegal setting neither .* model name is a"),
        (config(f"{GOOD} model_type: TENSORFLOW"), "Illegal setting both .* model name is a"),
        (
            config('name: "a" base_path: "/m" model_platform: "scann"'),
            "Model a requests unsupported platform scann",
        ),
        (
            config(f"{GOOD} logging_config {{ sampling_config {{ sampling_rate: 1 }} }}"),
            "logging_config: No request-logger-creator provided",
        ),
        ("custom_model_config { }", "custom_model_config is not supported"),
    ],
)
def test_what_cannot_be_served_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(CallError, match=message) as refusal:
        read_models(written(tmp_path, text))
    assert refusal.value.code.name == "INVALID_ARGUMENT"


def test_batching_has_the_real_defaults(tmp_path: Path) -> None:
    found = read_batching(written(tmp_path, ""), cores=6)
    serve = found.serve
    assert (serve.max_batch_size, serve.batch_timeout_micros) == (1000, 0)
    assert (serve.max_enqueued_batches, serve.num_batch_threads) == (10, 6)
    assert (found.most_rows, found.serve.allowed_batch_sizes) == (1000, ())
    assert read_batching(None, cores=6) == found


def test_batching_reads_what_is_given(tmp_path: Path) -> None:
    text = (
        "max_batch_size { value: 128 } batch_timeout_micros { value: 5 } "
        "max_enqueued_batches { value: 1000000 } num_batch_threads { value: 8 } "
        "allowed_batch_sizes: 8 allowed_batch_sizes: 32 "
        "enable_large_batch_splitting { value: true } max_execution_batch_size { value: 32 }"
    )
    found = read_batching(written(tmp_path, text), cores=1)
    assert (found.serve.max_batch_size, found.most_rows) == (32, 128)
    assert found.serve.max_enqueued_batches == 1_000_000
    assert found.serve.allowed_batch_sizes == (8, 32)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("pad_variable_length_inputs: true", "pad_variable_length_inputs: is not supported"),
        ("max_batch_size { value: 0 }", "max_batch_size: found 0, which is too small"),
        (
            "max_batch_size { value: 9 } allowed_batch_sizes: 3",
            r"allowed_batch_sizes: found \[3\], expected rising sizes that end with 9",
        ),
        (
            "max_batch_size { value: 3 } allowed_batch_sizes: [3, 3]",
            "expected rising sizes that end with 3",
        ),
        ("nonsense: 1", "Error parsing text-format tensorflow.serving.BatchingParameters"),
    ],
)
def test_batching_that_cannot_be_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_batching(written(tmp_path, text), cores=1)


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("prometheus_config { enable: true }", "/monitoring/prometheus/metrics"),
        ('prometheus_config { enable: true path: "/m" }', "/m"),
        ('prometheus_config { path: "/m" }', None),
        ("", None),
    ],
)
def test_prometheus_asks_only_where_the_file_says(
    tmp_path: Path, text: str, path: str | None
) -> None:
    assert read_metrics_path(written(tmp_path, text)) == path
