"""Sections about the optimiser: passes, their budget, and the runtimes to try."""

import itertools
from typing import Annotated, Literal, Self

from pydantic import (
    Field,
    model_validator,
)

from contract.schema.passes import DEFAULT_PASSES, LOSSY_PASSES, Passes
from contract.schema.section import Count, Ratio, Section


class RuntimesConfig(Section):
    """What may run the model. The fastest that answers alike and keeps to the limits is taken."""

    candidates: tuple[
        Literal[
            "tensorflow", "openvino", "openvino_bf16", "openvino_int8", "litert", "litert_int8"
        ],
        ...,
    ] = Field(
        ("tensorflow", "openvino", "openvino_int8", "litert"),
        description="Tried in turn; 'tensorflow' alone measures nothing.",
    )
    exports: tuple[Literal["litert", "litert_int8", "xla_aot"], ...] = Field(
        (), description="Files for elsewhere (phones, C++ programs), kept beside the model."
    )
    export_batch_sizes: tuple[Count, ...] = Field(
        (1, 32), description="Rows a call of compiled exports (xla_aot), which fix them."
    )
    tolerance: Annotated[float, Field(gt=0.0)] = Field(
        1e-4, description="Largest difference of answers, float32 runtimes: relative above 1."
    )
    max_accuracy_loss_points: Annotated[float, Field(ge=0.0, le=100.0)] = Field(
        1.0,
        description="bf16 and int8: what they may cost on the eval part, as `budget_percent`; "
        "above it int8 leaves its most sensitive layers in float.",
    )
    min_speedup: Annotated[float, Field(ge=1.0)] = Field(
        1.2, description="bf16 and int8 are taken only if so many times as fast as float32."
    )
    max_p99_ms: Annotated[float, Field(gt=0.0)] | None = Field(
        None, description="Of the model's call with one row."
    )
    min_rows_per_second: Annotated[float, Field(gt=0.0)] | None = Field(
        None, description="With 32 rows a call."
    )
    max_memory_mb: Annotated[float, Field(gt=0.0)] | None = Field(
        None, description="Of the process that has loaded it."
    )


class OptimizeConfig(Section):
    """Passes over the SavedModel, in order; each must pass the gate or is undone."""

    passes: Passes = Field(DEFAULT_PASSES, validate_default=True)
    tolerance: Annotated[float, Field(gt=0.0)] = Field(
        1e-5, description="Largest relative difference of outputs that a float pass may cause."
    )
    budget_percent: Annotated[float, Field(ge=0.0, le=100.0)] = Field(
        1.0,
        description="What a lossy pass may cost: points of `bless.metric` on the eval part; of "
        "class agreement where there are no labels; percent of a metric without upper bound.",
    )
    min_gain_ratio: Ratio = Field(
        0.1,
        description="A lossy pass is kept if the model gets smaller or faster by this share; 0: "
        "whenever it is within its budget.",
    )
    sample_rows: Count = Field(256, description="Rows for comparing float passes and calibration.")
    eval_rows: Count = Field(5000, description="Most rows on which lossy passes are judged.")
    runtimes: RuntimesConfig = RuntimesConfig()

    @model_validator(mode="after")
    def _lossy_last(self) -> Self:
        names = [one.name for one in self.passes]
        for name, later in itertools.pairwise(names):
            if name in LOSSY_PASSES and later not in LOSSY_PASSES:
                raise ValueError(
                    f"passes: '{later}' stands after '{name}'; float passes are held to the "
                    "original's digits, so they come before those that cost some"
                )
        return self
