"""The typed form of `pipeline.yaml`: every key, its unit, its range and its one default."""

import re
from typing import Annotated, Self

from pydantic import (
    Field,
    field_validator,
    model_validator,
)

from contract.feature_names import name_problem
from contract.schema.data import (
    FeatureConfig,
    HeadConfig,
    IngestConfig,
    TransformConfig,
    ValidateConfig,
)
from contract.schema.optimize import OptimizeConfig
from contract.schema.section import Count, Name, Seconds, Section
from contract.schema.serving import DeployConfig, PackageConfig, ServeConfig
from contract.schema.training import BlessConfig, EvaluateConfig, TrainConfig


class RetentionConfig(Section):
    """What is kept; never less than the champion and what a canary uses."""

    runs: Count = 10
    versions: Count = 5
    log_days: Count = 30


class NotifyConfig(Section):
    """Whom to tell of failures, refusals and roll-backs; the Airflow log always."""

    emails: tuple[str, ...] = ()
    smtp_connection: str = Field("smtp_default", description="An Airflow connection id.")
    webhook_connection: str = Field("", description="An Airflow HTTP connection id; empty: none.")


class ScheduleConfig(Section):
    """When and how Airflow runs it."""

    cron: str | None = Field(None, description="Five-field cron expression, UTC; null: by hand.")
    on_new_labels: bool = True
    retries: Annotated[int, Field(ge=0, le=10)] = 2
    retry_delay_seconds: Seconds = 10.0
    timeout_seconds: Seconds = Field(12 * 3600.0, description="Longest that one task may take.")

    @field_validator("cron")
    @classmethod
    def _five_fields(cls, cron: str | None) -> str | None:
        if cron is not None and not re.fullmatch(r"\S+( \S+){4}", cron):
            raise ValueError(
                f"expected five fields 'minute hour day month weekday', found {cron!r}"
            )
        if cron is not None:
            from croniter import CroniterError, croniter  # only here: few processes need it

            try:
                croniter(cron)
            except CroniterError as error:
                raise ValueError(str(error)) from error
        return cron


class PipelineConfig(Section):
    """All of `pipeline.yaml`."""

    name: Name
    description: str = ""
    schedule: ScheduleConfig = ScheduleConfig()
    features: Annotated[dict[str, FeatureConfig], Field(min_length=1)]
    heads: Annotated[dict[Name, HeadConfig], Field(min_length=1)]
    weight: str | None = Field(None, description="Column of example weights, if any.")
    ingest: IngestConfig
    validate_: ValidateConfig = Field(default=ValidateConfig(), alias="validate")
    transform: TransformConfig = TransformConfig()
    train: TrainConfig = TrainConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    bless: BlessConfig = BlessConfig()
    optimize: OptimizeConfig = OptimizeConfig()
    package: PackageConfig = PackageConfig()
    serve: ServeConfig = ServeConfig()
    deploy: DeployConfig = DeployConfig()
    retention: RetentionConfig = RetentionConfig()
    notify: NotifyConfig = NotifyConfig()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        problems = []
        labels = {self.label_column(head): head for head in self.heads}
        for name in self.features:
            if problem := name_problem(name):
                problems.append(f"features.{name}: {problem}")
        if self.weight is not None and self.weight != "weight" and "weight" in self.features:
            problems.append(
                "features.weight: the name is taken where there are weights; rename the column"
            )
        for column in sorted(labels.keys() & self.features.keys()):
            problems.append(f"heads.{labels[column]}: column '{column}' is also a feature: a leak")
        if self.weight is not None and self.weight in self.features:
            problems.append(f"weight: column '{self.weight}' is also a feature")
        for name in self.evaluate.slices:
            feature = self.features.get(name)
            if feature is None:
                problems.append(f"evaluate.slices: '{name}' is not a feature")
            elif feature.shape or feature.is_variable_length:
                problems.append(f"evaluate.slices: '{name}' is not a scalar")
        for head, weights in self.train.class_weights.items():
            known = self.heads[head].classes if head in self.heads else ()
            if not known:
                problems.append(f"train.class_weights: '{head}' is no head with classes")
            elif unknown := sorted(weights.keys() - set(known)):
                problems.append(f"train.class_weights.{head}: '{unknown[0]}' is no class of it")
        if self.bless.head and self.bless.head not in self.heads:
            problems.append(f"bless.head: '{self.bless.head}' is not a head")
        for head in self.bless.head_margins.keys() - self.heads.keys():
            problems.append(f"bless.head_margins: '{head}' is not a head")
        if self.ingest.test_source is None and self.ingest.split.test == 0.0:
            problems.append("ingest.split.test: must be above 0 where there is no test_source")
        if problems:
            raise ValueError("; ".join(problems))
        return self

    def label_column(self, head: str) -> str:
        """Return the raw column that holds a head's label."""
        return self.heads[head].column or head

    @property
    def blessing_head(self) -> str:
        """The head whose metric decides between models."""
        return self.bless.head or next(iter(self.heads))
