"""Sections about packages, servers and the way to production."""

from typing import Annotated, Literal, Self

from pydantic import (
    Field,
    model_validator,
)

from contract.schema.section import Count, Ratio, Seconds, Section

HEADER_NAME = r"[a-z0-9][a-z0-9-]{0,63}"  # of a header by which callers keep their arm


class LoadtestConfig(Section):
    """The short load test that a package must pass before it may be deployed."""

    seconds: Seconds = Field(5.0, description="Duration of the load test in seconds, above 0.")
    requests: Count = Field(
        10_000,
        description="Number of requests, at least 1, after which it ends before its time; of "
        "10,000, 100 are above the 99th percentile.",
    )
    concurrency: Count = Field(16, description="Requests in flight at the same time, at least 1.")
    max_error_ratio: Ratio = Field(
        0.0, description="Share of failed requests, from 0 to 1, above which the package fails."
    )
    max_p99_ms: Annotated[float, Field(gt=0.0)] = Field(
        1000.0,
        description="99th percentile of the latency in milliseconds, above 0, above which the "
        "package fails.",
    )


class PackageConfig(Section):
    """A self-contained directory: model, server settings, provenance."""

    loadtest: LoadtestConfig = Field(
        LoadtestConfig(), description="The load test that a package must pass."
    )
    skew_examples: Count = Field(
        64, description="Rows that are predicted both offline and over HTTP, at least 1."
    )
    skew_tolerance: Annotated[float, Field(gt=0.0)] = Field(
        1e-5,
        description="Largest difference between offline and served answers, no unit, above 0; "
        "absolute below 1, relative above.",
    )


def check_batch_sizes(sizes: tuple[int, ...], most: int) -> None:
    """Refuse sizes of batches that do not rise to the largest batch.

    Raises:
        ValueError: If they do not.
    """
    if sizes and (list(sizes) != sorted(set(sizes)) or sizes[0] < 1 or sizes[-1] != most):
        raise ValueError(
            f"allowed_batch_sizes: found {list(sizes)}, expected rising sizes that end with {most}"
        )


class CommonServeConfig(Section):
    """What every model server has. Batching parameters carry TensorFlow Serving's names."""

    enable_batching: bool = Field(
        True, description="Whether requests share calls of the model, true or false."
    )
    max_batch_size: Count = Field(64, description="Most rows in one call of the model, at least 1.")
    batch_timeout_micros: Annotated[int, Field(ge=0)] = Field(
        0,
        description="Microseconds that a request waits for others to share its batch, at least 0.",
    )
    max_enqueued_batches: Count = Field(
        64, description="Most batches that wait, at least 1; a further request gets status 503."
    )
    num_batch_threads: Count = Field(
        1, description="Number of threads that call the model, at least 1."
    )
    allowed_batch_sizes: tuple[Count, ...] = Field(
        (),
        description="Numbers of rows, rising to max_batch_size, with which the model is called; a "
        "smaller batch is filled up with copies of its first row. Empty: any number.",
    )
    grpc: bool = Field(
        False,
        description="Whether a server speaks gRPC, too, on a second port, true or false. The data "
        "plane then routes calls of gRPC as it does requests.",
    )
    max_body_mb: Annotated[float, Field(gt=0.0)] = Field(
        16.0,
        description="Largest body of a request in megabytes, above 0, also after a gzip body is "
        "inflated.",
    )
    max_cells: Count = Field(
        1 << 20,
        description="Most values of one variable-length input in one request or one call of the "
        "model, at least 1: its rows times the longest list, since shorter ones are padded.",
    )
    drain_seconds: Seconds = Field(
        20.0, description="Seconds that a server has to finish its requests on SIGTERM, above 0."
    )
    prediction_log_ratio: Ratio = Field(
        1.0, description="Share of requests whose answers are logged, from 0 to 1."
    )
    prediction_log_inputs_ratio: Ratio = Field(
        0.0,
        description="Share of requests whose inputs are logged with their answers, from 0 to 1; at "
        "most prediction_log_ratio applies.",
    )
    prediction_log_days: Count = Field(
        30, description="Days for which answers are kept in the log, at least 1."
    )
    prediction_log_max_mb: Annotated[float, Field(gt=0.0)] = Field(
        512.0,
        description="Largest size of one version's log in megabytes, above 0; the oldest answers "
        "are removed first.",
    )

    @model_validator(mode="after")
    def _sizes_rise(self) -> Self:
        check_batch_sizes(self.allowed_batch_sizes, self.max_batch_size)
        return self

    @property
    def max_request_rows(self) -> int:
        """Most rows of one request: what may wait at all."""
        return self.max_batch_size * self.max_enqueued_batches


class ServeConfig(CommonServeConfig):
    """One model server."""

    cors_origins: tuple[Annotated[str, Field(pattern=r"^(\*|https?://[^/\s]+)$")], ...] = Field(
        (),
        description="Web pages that may call: origins such as 'https://app.example.org', or '*'.",
    )
    fault_ratio: Ratio = Field(
        0.0,
        description="Share of requests that fail on purpose, from 0 to 1, to rehearse a roll-back.",
    )


class DeployConfig(Section):
    """The ladder to production and its judge; docs/rollout.md explains what the tests prove."""

    ladder_percent: Annotated[
        tuple[Annotated[int, Field(ge=1, le=100)], ...], Field(min_length=1)
    ] = Field(
        (1, 5, 25, 50, 100),
        description="The canary's share of the traffic on each rung in percent, rising from at "
        "least 1 to 100; 100 means all but hold_back_percent.",
    )
    ladder: Literal["auto", "all"] = Field(
        "auto",
        description="Which rungs are used. 'auto': without lower rungs that would take more than "
        "half of the time left at the traffic seen, but always the last two, with more for stable "
        "on the last one where that is needed to compare in time; 'all': every rung.",
    )
    sticky_header: Annotated[str, Field(pattern=rf"^$|^{HEADER_NAME}$")] = Field(
        "",
        description="Request header, in lower case, such as 'x-user-id', whose value keeps its arm "
        "while the weights move; empty: every request is drawn by chance.",
    )
    sticky_users: Annotated[int, Field(ge=0)] = Field(
        0,
        description="With sticky_header: number of users, at least 0, as if all sent as many "
        "requests; a roll-back on a rung then needs that enough of them fail. 0: users are not "
        "counted, for traffic of very many.",
    )
    hold_back_percent: Annotated[int, Field(ge=1, le=50)] = Field(
        5,
        description="Traffic in percent, from 1 to 50, that stays on stable until the promotion, "
        "as a comparison; with 'ladder: auto' up to 30 where traffic is scarce.",
    )
    shadow_percent: Annotated[int, Field(ge=0, le=100)] = Field(
        100, description="Traffic in percent, from 0 to 100, that the shadow gets a copy of."
    )
    shadow_requests: Annotated[int, Field(ge=0)] = Field(
        200,
        description="Fewest requests whose answers are compared in the shadow, at least 0; 0: no "
        "shadow.",
    )
    shadow_max_concurrent_requests: Count = Field(
        32,
        description="Most requests in flight to the shadow, at least 1; further copies are "
        "dropped.",
    )
    min_requests_per_step: Count = Field(
        50,
        description="Fewest requests of the canary, and fewest timed requests of both arms, on "
        "each rung, at least 1.",
    )
    min_seconds_per_step: Annotated[float, Field(ge=0.0)] = Field(
        60.0,
        description="Least seconds in the shadow and on each rung, at least 0, so that a burst, a "
        "leak or a batch job shows; above the data plane's timeout (30 s) except in rehearsals.",
    )
    allowed_error_ratio: Ratio = Field(
        0.01,
        description="Share of errors, from 0 to 1, that is acceptable for the canary (p0 of the "
        "SPRT).",
    )
    refused_error_ratio: Ratio = Field(
        0.05,
        description="Share of errors, from 0 to 1, that must be caught (p1 of the SPRT); where "
        "stable has errors, as much above stable's ratio as this is above allowed_error_ratio.",
    )
    client_error_margin_ratio: Annotated[float, Field(gt=0.0, lt=1.0)] = Field(
        0.1,
        description="Share of answers with status 4xx above stable's ratio, above 0 and below 1, "
        "that must be caught.",
    )
    alpha: Annotated[float, Field(gt=0.0, lt=0.5)] = Field(
        0.01,
        description="Probability that a good canary is rolled back, over the whole ladder, above "
        "0 and below 0.5.",
    )
    beta: Annotated[float, Field(gt=0.0, lt=0.5)] = Field(
        0.01,
        description="Probability that a bad canary passes, for each test on each rung, above 0 and "
        "below 0.5.",
    )
    label_margin_ratio: Annotated[float, Field(ge=0.0, lt=1.0)] = Field(
        0.01,
        description="Accuracy, from 0 to below 1, by which late labels must show a version to be "
        "worse than the champion before it to be rolled back ('slipway judge labels').",
    )
    label_least_probability: Annotated[float, Field(gt=0.0, le=1.0)] = Field(
        1.0,
        description="Least probability, above 0 to 1, with which a row is chosen to be labelled, 1 "
        "where all are; below it the column 'probability' of a file of labels is refused.",
    )
    max_latency_ratio: Annotated[float, Field(gt=1.0)] = Field(
        3.0,
        description="Canary's p95 divided by stable's p95, above 1, that is too slow; the same for "
        "p99.",
    )
    min_latency_difference_ms: Annotated[float, Field(ge=0.0)] = Field(
        10.0,
        description="Difference to stable's latency in milliseconds, at least 0, below which a "
        "canary is never too slow.",
    )
    warm_up_requests: Annotated[int, Field(ge=0)] = Field(
        20,
        description="First requests of a phase whose latency does not count, at least 0: caches "
        "are cold.",
    )
    max_disagreement_ratio: Ratio | None = Field(
        None,
        description="Share of rows, from 0 to 1, on which shadow and stable may differ; null: the "
        "sum of (1 - accuracy) of both models from bless, or 0.5 without accuracies.",
    )
    timeout_seconds: Seconds = Field(
        3600.0,
        description="Seconds, above 0, after which a canary without a verdict is inconclusive and "
        "rolled back.",
    )
    lease_seconds: Annotated[float, Field(ge=10.0)] = Field(
        60.0,
        description="Seconds, at least 10, for which a trial keeps its traffic without a call of "
        "its controller; then the serving agent gives stable all traffic again.",
    )
    requires_approval: bool = Field(
        False, description="Whether a person must approve the promotion in the Airflow UI."
    )

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if list(self.ladder_percent) != sorted(set(self.ladder_percent)):
            raise ValueError("ladder_percent must rise without repeats")
        if self.ladder_percent[-1] != 100:
            raise ValueError("ladder_percent must end at 100")
        if self.allowed_error_ratio >= self.refused_error_ratio:
            raise ValueError("allowed_error_ratio must be below refused_error_ratio")
        if self.sticky_header == "authorization":
            raise ValueError("sticky_header: 'authorization' may be alike for all callers")
        return self

    @property
    def rungs_percent(self) -> tuple[int, ...]:
        """The canary's share on each rung; the last rung leaves stable what is held back."""
        most = 100 - self.hold_back_percent
        return (*(percent for percent in self.ladder_percent if percent < most), most)
