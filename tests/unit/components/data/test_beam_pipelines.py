"""Beam's runners by name: each gets the options that the config gives it."""

from collections.abc import Sequence

import pytest

from components.data.beam_pipelines import open_pipeline
from contract.errors import ConfigError
from contract.schema.data import BeamConfig


@pytest.mark.parametrize(
    ("runner", "made", "options", "understood"),
    [
        ("DirectRunner", "FnApiRunner", ["--direct_num_workers=2"], {"direct_num_workers": 2}),
        (
            *("FlinkRunner", "FlinkRunner"),
            ["--flink_master=flink:8081", "--parallelism=4"],
            {"flink_master": "flink:8081", "parallelism": 4},
        ),
        (
            *("SparkRunner", "SparkRunner"),
            ["--spark_master_url=spark://spark:7077"],
            {"spark_master_url": "spark://spark:7077"},
        ),
    ],
)
def test_a_runner_takes_its_options(
    runner: str, made: str, options: Sequence[str], understood: dict[str, object]
) -> None:
    pipeline = open_pipeline(BeamConfig(runner=runner, options=tuple(options)), "ingest")
    assert type(pipeline.runner).__name__ == made
    found = pipeline.options.get_all_options(drop_default=True)
    assert understood.items() <= found.items()


def test_dataflow_says_itself_what_it_lacks() -> None:
    with pytest.raises(
        ConfigError, match=r"(?s)ingest.beam: runner 'DataflowRunner'.*option: region"
    ):
        open_pipeline(BeamConfig(runner="DataflowRunner"), "ingest")


def test_an_unknown_runner_is_the_configs_error() -> None:
    with pytest.raises(ConfigError, match="ingest.beam: runner 'FlunkRunner'"):
        open_pipeline(BeamConfig(runner="FlunkRunner"), "ingest")
