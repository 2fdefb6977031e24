"""Sections about packages, servers and the way to production."""

from typing import Annotated, Literal, Self

from pydantic import (
    Field,
    model_validator,
)

from contract.schema.section import Count, Ratio, Seconds, Section


class LoadtestConfig(Section):
    """The short load test that a package must survive before it may be deployed."""

    seconds: Seconds = 5.0
    requests: Count = Field(
        10_000, description="It ends before its time with so many: 100 of them are above the p99."
    )
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
    """The ladder to production and the judge on it. docs/rollout.md says what its tests prove."""

    ladder_percent: Annotated[
        tuple[Annotated[int, Field(ge=1, le=100)], ...], Field(min_length=1)
    ] = Field(
        (1, 5, 25, 50, 100),
        description="The canary's share of the traffic on each rung; 100 stands for all but "
        "hold_back_percent.",
    )
    ladder: Literal["auto", "all"] = Field(
        "auto",
        description="auto: leave out lower rungs for which the traffic seen is too little to end "
        "in half of the time left, never the last two; all: walk every rung.",
    )
    hold_back_percent: Annotated[int, Field(ge=1, le=50)] = Field(
        5, description="Traffic that stays on stable until the promotion, to compare with."
    )
    shadow_percent: Annotated[int, Field(ge=0, le=100)] = 100
    shadow_requests: Annotated[int, Field(ge=0)] = Field(
        200, description="Least requests whose answers are compared in the shadow; 0: no shadow."
    )
    shadow_max_concurrent_requests: Count = 32
    min_requests_per_step: Count = Field(
        50, description="Least requests of the canary, and least timed of both arms, on each rung."
    )
    min_seconds_per_step: Annotated[float, Field(ge=0.0)] = Field(
        60.0,
        description="Least time in the shadow and on each rung, for a burst, a leak or a batch job "
        "to show; at least the data plane's timeout (30 s), but for rehearsals.",
    )
    allowed_error_ratio: Ratio = Field(
        0.01, description="Errors acceptable of the canary (SPRT's p0)."
    )
    refused_error_ratio: Ratio = Field(
        0.05,
        description="Errors that must be caught (SPRT's p1); where stable itself has errors, as "
        "much above stable's ratio as this is above allowed_error_ratio.",
    )
    client_error_margin_ratio: Annotated[float, Field(gt=0.0, lt=1.0)] = Field(
        0.1, description="Answers with status 4xx above stable's ratio that must be caught."
    )
    alpha: Annotated[float, Field(gt=0.0, lt=0.5)] = Field(
        0.01, description="Chance that a good canary is rolled back, over the whole way."
    )
    beta: Annotated[float, Field(gt=0.0, lt=0.5)] = Field(
        0.01, description="Chance that a bad canary passes, by each test on each rung."
    )
    max_latency_ratio: Annotated[float, Field(gt=1.0)] = Field(
        3.0, description="Canary's p95 over stable's p95 that is too slow; the same of p99."
    )
    min_latency_difference_ms: Annotated[float, Field(ge=0.0)] = Field(
        10.0, description="Slower than stable by less than this is never too slow."
    )
    warm_up_requests: Annotated[int, Field(ge=0)] = Field(
        20, description="First requests of a phase whose latency does not count: caches are cold."
    )
    max_disagreement_ratio: Ratio | None = Field(
        None,
        description="Share of rows that the shadow may answer otherwise than stable; null: what "
        "bless measured allows, (1 - accuracy) of both models added, or 0.5 without accuracies.",
    )
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

    @property
    def rungs_percent(self) -> tuple[int, ...]:
        """The canary's share on each rung, the last one leaving stable what is held back."""
        most = 100 - self.hold_back_percent
        return (*(percent for percent in self.ladder_percent if percent < most), most)
