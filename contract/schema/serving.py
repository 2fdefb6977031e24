"""Sections about packages, servers and the way to production."""

from typing import Annotated, Self

from pydantic import (
    Field,
    model_validator,
)

from contract.schema.section import Count, Ratio, Seconds, Section


class LoadtestConfig(Section):
    """The short load test that a package must survive before it may be deployed."""

    seconds: Seconds = 5.0
    concurrency: Count = 16
    max_error_ratio: Ratio = 0.0
    max_p99_ms: Annotated[float, Field(gt=0.0)] = 1000.0


class PackageConfig(Section):
    """A self-contained directory: model, server settings, provenance."""

    loadtest: LoadtestConfig = LoadtestConfig()
    skew_examples: Count = Field(64, description="Rows sent both offline and over HTTP.")
    skew_tolerance: Annotated[float, Field(gt=0.0)] = 1e-5


class ServeConfig(Section):
    """One model server. Batching parameters carry TensorFlow Serving's names and meaning."""

    max_batch_size: Count = Field(64, description="Rows in one call of the model.")
    batch_timeout_micros: Annotated[int, Field(ge=0)] = 0
    max_enqueued_batches: Count = Field(64, description="Beyond this a request gets 503.")
    num_batch_threads: Count = 1
    max_body_mb: Annotated[float, Field(gt=0.0)] = Field(
        16.0, description="Of a request, also after a gzip body is inflated."
    )
    drain_seconds: Seconds = 20.0
    cors_origins: tuple[Annotated[str, Field(pattern=r"^(\*|https?://[^/\s]+)$")], ...] = Field(
        (),
        description="Web pages that may call: origins as 'https://app.example.org', or '*'.",
    )
    prediction_log_ratio: Ratio = Field(
        1.0, description="Share of requests whose answer is logged."
    )
    fault_ratio: Ratio = Field(
        0.0, description="Fail this share of requests on purpose: a rehearsal of a roll-back."
    )


class DeployConfig(Section):
    """The ladder to production and the judge on it. The judge counts requests, not minutes."""

    ladder_percent: Annotated[
        tuple[Annotated[int, Field(ge=1, le=100)], ...], Field(min_length=1)
    ] = (
        1,
        5,
        25,
        50,
        100,
    )
    shadow_percent: Annotated[int, Field(ge=0, le=100)] = 100
    shadow_requests: Annotated[int, Field(ge=0)] = 200
    shadow_max_concurrent_requests: Count = 32
    min_requests_per_step: Count = 50
    allowed_error_ratio: Ratio = Field(
        0.01, description="Errors acceptable of the canary (SPRT's p0)."
    )
    refused_error_ratio: Ratio = Field(0.05, description="Errors that must be caught (SPRT's p1).")
    alpha: Annotated[float, Field(gt=0.0, lt=0.5)] = Field(
        0.01, description="Chance that a good canary is rolled back."
    )
    beta: Annotated[float, Field(gt=0.0, lt=0.5)] = Field(
        0.01, description="Chance that a bad canary passes."
    )
    max_latency_ratio: Annotated[float, Field(gt=1.0)] = Field(
        3.0, description="Canary's p95 over stable's p95 that is too slow."
    )
    min_latency_difference_ms: Annotated[float, Field(ge=0.0)] = Field(
        10.0, description="Slower than stable's p95 by less than this is never too slow."
    )
    max_disagreement_ratio: Ratio = Field(0.5, description="Shadow answers that may differ.")
    timeout_seconds: Seconds = Field(
        3600.0, description="No verdict by then: inconclusive, roll back."
    )
    requires_approval: bool = Field(False, description="A person approves in the Airflow UI first.")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if list(self.ladder_percent) != sorted(set(self.ladder_percent)):
            raise ValueError("ladder_percent must rise without repeats")
        if self.ladder_percent[-1] != 100:
            raise ValueError("ladder_percent must end at 100")
        if self.allowed_error_ratio >= self.refused_error_ratio:
            raise ValueError("allowed_error_ratio must be below refused_error_ratio")
        return self
