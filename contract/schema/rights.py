"""Sections of the runtime file that say what a run may ask for: config keys, and sources."""

from typing import Annotated

from pydantic import Field

from contract.schema.section import Section

OverrideKey = Annotated[str, Field(pattern=r"^[a-z_]+(\.[^.\s]+)*$")]
Scheme = Annotated[str, Field(pattern=r"^[a-z][a-z0-9+.-]*$")]


class RunsConfig(Section):
    """What somebody who may start a run in Airflow may change by it."""

    overrides: tuple[OverrideKey, ...] = Field(
        ("train", "evaluate"),
        description="Config keys that a run started in Airflow may override: a section such as "
        "'train', or one key such as 'serve.fault_ratio'. 'evaluate' does not include queue_uri "
        "and slices, which must be named in full. In pipeline.yaml everything may be changed.",
    )


class SourcesConfig(Section):
    """Where pipelines may read their data."""

    roots: tuple[Annotated[str, Field(pattern=r"^/")], ...] = Field(
        (),
        description="Absolute folders below which files of sources must lie, links followed, "
        "besides the pipeline's own folder; empty: anywhere.",
    )
    schemes: tuple[Scheme, ...] = Field(
        ("file", "s3", "gs", "gcs", "abfs", "abfss", "az", "hdfs", "webhdfs"),
        description="Schemes that the URIs of sources may have; others could reach addresses that "
        "only this machine reaches.",
    )
