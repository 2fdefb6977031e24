"""Sections about the optimiser: passes, their budget, and the engines to try."""

import itertools
from typing import Annotated, Literal, Self

from pydantic import (
    Field,
    model_validator,
)

from contract.schema.passes import DEFAULT_PASSES, LOSSY_PASSES, Passes
from contract.schema.section import Count, Ratio, Section


class EnginesConfig(Section):
    """What may execute the model: the fastest engine with equal answers within the limits wins."""

    candidates: tuple[
        Literal[
            "tensorflow", "openvino", "openvino_bf16", "openvino_int8", "litert", "litert_int8"
        ],
        ...,
    ] = Field(
        ("tensorflow", "openvino", "openvino_int8", "litert"),
        description="Engines to try, in order; with 'tensorflow' alone nothing is measured.",
    )
    exports: tuple[Literal["litert", "litert_int8", "xla_aot"], ...] = Field(
        (),
        description="Files for use outside Slipway (phones, C++ programs), kept beside the model.",
    )
    export_batch_sizes: tuple[Count, ...] = Field(
        (1, 32),
        description="Rows in one call of compiled exports (xla_aot), which have fixed sizes; each "
        "at least 1.",
    )
    tolerance: Annotated[float, Field(gt=0.0)] = Field(
        1e-4,
        description="Largest difference of answers with float32 engines, no unit, above 0; "
        "absolute below 1, relative above.",
    )
    max_accuracy_loss_points: Annotated[float, Field(ge=0.0, le=100.0)] = Field(
        1.0,
        description="Loss on the eval split that bf16 and int8 may cost, in points from 0 to 100 "
        "as `budget_percent`; above it int8 keeps its most sensitive layers in float.",
    )
    min_speedup: Annotated[float, Field(ge=1.0)] = Field(
        1.2,
        description="Speed relative to float32, at least 1, from which bf16 and int8 are chosen.",
    )
    max_p99_ms: Annotated[float, Field(gt=0.0)] | None = Field(
        None,
        description="Largest 99th percentile of the latency with one row, in milliseconds, above "
        "0; null: no limit.",
    )
    min_rows_per_second: Annotated[float, Field(gt=0.0)] | None = Field(
        None,
        description="Least throughput with 32 rows in one call, in rows per second, above 0; null: "
        "no limit.",
    )
    max_memory_mb: Annotated[float, Field(gt=0.0)] | None = Field(
        None,
        description="Most memory of the process that has loaded the model, in megabytes, above 0; "
        "null: no limit.",
    )


class OptimizeConfig(Section):
    """Passes over the SavedModel, in order; each must pass the gate or is undone."""

    passes: Passes = Field(DEFAULT_PASSES, validate_default=True)
    tolerance: Annotated[float, Field(gt=0.0)] = Field(
        1e-5,
        description="Largest relative difference of outputs that a float pass may cause, no unit, "
        "above 0.",
    )
    budget_percent: Annotated[float, Field(ge=0.0, le=100.0)] = Field(
        1.0,
        description="Loss that a lossy pass may cost, from 0 to 100: points of `bless.metric` on "
        "the eval split, or percent of a metric without an upper bound; at least the share of rows "
        "that lose their right class.",
    )
    min_gain_ratio: Ratio = Field(
        0.1,
        description="Share of size or time, from 0 to 1, that a lossy pass must save to be kept; "
        "0: it is kept whenever it is within its budget.",
    )
    sample_rows: Count = Field(
        256,
        description="Rows with which float passes are compared and ranges calibrated, at least 1.",
    )
    eval_rows: Count = Field(
        5000, description="Most rows on which lossy passes are judged, at least 1."
    )
    engines: EnginesConfig = Field(
        EnginesConfig(), description="Engines to try, and what they must keep to."
    )

    @model_validator(mode="after")
    def _lossy_last(self) -> Self:
        names = [one.name for one in self.passes]
        for name, later in itertools.pairwise(names):
            if name in LOSSY_PASSES and later not in LOSSY_PASSES:
                raise ValueError(
                    f"passes: '{later}' stands after '{name}'; expected every float pass before "
                    "the lossy ones, because its outputs are compared with the original model's"
                )
        return self
