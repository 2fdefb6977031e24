"""The typed form of `pipeline.yaml`: every key, its unit, its range and its one default."""

from collections.abc import Iterator
from typing import Annotated, Self

from pydantic import (
    Field,
    field_validator,
    model_validator,
)

from contract.feature_names import name_problem
from contract.schema.cron import check_cron
from contract.schema.data import (
    FeatureConfig,
    HeadConfig,
    IngestConfig,
    TransformConfig,
    ValidateConfig,
)
from contract.schema.labels import LabelsConfig
from contract.schema.optimize import OptimizeConfig
from contract.schema.section import Count, Name, Seconds, Section
from contract.schema.serving import DeployConfig, PackageConfig, ServeConfig
from contract.schema.training import BlessConfig, EvaluateConfig, TrainConfig


class RetentionConfig(Section):
    """What is kept; the champion, the best one before it and what a canary uses always are."""

    runs: Count = Field(10, description="Number of newest runs that are kept, at least 1.")
    versions: Count = Field(5, description="Number of newest versions that are kept, at least 1.")
    log_days: Count = Field(
        30,
        description="Days for which logs are kept, at least 1; for prediction logs "
        "serve.prediction_log_days holds, too.",
    )


class NotifyConfig(Section):
    """Who is notified of failures, refusals and roll-backs; the Airflow log always shows them."""

    emails: tuple[str, ...] = Field((), description="E-mail addresses that are notified.")
    smtp_connection: str = Field(
        "smtp_default", description="Id of the Airflow connection that sends e-mail."
    )
    webhook_connection: str = Field(
        "", description="Id of the Airflow HTTP connection that is called; empty: none."
    )


class ScheduleConfig(Section):
    """When and how Airflow runs it."""

    cron: str | None = Field(
        None, description="Cron expression with five fields, in UTC; null: no schedule."
    )
    on_new_labels: bool = Field(True, description="Whether new labels start a run.")
    retries: Annotated[int, Field(ge=0, le=10)] = Field(
        2, description="Number of retries of a failed task, from 0 to 10."
    )
    retry_delay_seconds: Seconds = Field(
        10.0, description="Seconds before the first retry, above 0; longer before later ones."
    )
    timeout_seconds: Seconds = Field(
        12 * 3600.0, description="Seconds that one task may take, above 0."
    )

    @field_validator("cron")
    @classmethod
    def _five_fields(cls, cron: str | None) -> str | None:
        return check_cron(cron)


class PipelineConfig(Section):
    """All of `pipeline.yaml`."""

    name: Name = Field(description="Name of the pipeline, equal to the name of its folder.")
    description: str = Field("", description="What the pipeline does, for people.")
    schedule: ScheduleConfig = Field(
        ScheduleConfig(), description="When and how Airflow runs the pipeline."
    )
    features: Annotated[dict[str, FeatureConfig], Field(min_length=1)] = Field(
        description="The raw input columns by name, at least one."
    )
    heads: Annotated[dict[Name, HeadConfig], Field(min_length=1)] = Field(
        description="What the model predicts, by name, at least one."
    )
    weight: str | None = Field(
        None, description="Column of the example weights; null: all have weight 1."
    )
    ingest: IngestConfig = Field(description="Raw data to sharded TFRecords.")
    validate_: ValidateConfig = Field(
        ValidateConfig(),
        alias="validate",
        description="How much the data may differ from the schema and from the last run.",
    )
    transform: TransformConfig = Field(
        TransformConfig(), description="The full pass of tf.Transform over the data."
    )
    train: TrainConfig = Field(
        TrainConfig(), description="The training loop: strategy, steps, checkpoints."
    )
    evaluate: EvaluateConfig = Field(
        EvaluateConfig(), description="How every checkpoint is judged on the eval split."
    )
    bless: BlessConfig = Field(
        BlessConfig(), description="When a candidate may continue to production."
    )
    optimize: OptimizeConfig = Field(
        OptimizeConfig(), description="Passes over the graph, and engines to try."
    )
    package: PackageConfig = Field(
        PackageConfig(), description="What a package must pass before it may be deployed."
    )
    serve: ServeConfig = Field(ServeConfig(), description="Settings of one model server.")
    deploy: DeployConfig = Field(
        DeployConfig(), description="The ladder to production and the judge on it."
    )
    labels: LabelsConfig | None = Field(
        None, description="The label loop; null: none, and no DAG for it."
    )
    retention: RetentionConfig = Field(
        RetentionConfig(), description="Which runs, versions and logs are kept."
    )
    notify: NotifyConfig = Field(
        NotifyConfig(), description="Who is notified of failures, refusals and roll-backs."
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        problems = [
            *self._problems_of_columns(),
            *self._problems_of_slices(),
            *self._problems_of_class_weights(),
            *self._problems_of_blessing(),
            *self._problems_of_labels(),
        ]
        beside = self.ingest.split.problems_beside(self.ingest.test_source is not None)
        problems += [f"ingest.split.{problem}" for problem in beside]
        if problems:
            raise ValueError("; ".join(problems))
        return self

    def _problems_of_columns(self) -> Iterator[str]:
        labels = {self.label_column(head): head for head in self.heads}
        for name in self.features:
            if problem := name_problem(name):
                yield f"features.{name}: {problem}"
        if self.weight is not None and self.weight != "weight" and "weight" in self.features:
            yield "features.weight: the name is reserved where there are weights; rename the column"
        for column in sorted(labels.keys() & self.features.keys()):
            yield f"heads.{labels[column]}: column '{column}' is also a feature: a leak"
        if self.weight is not None and self.weight in self.features:
            yield f"weight: column '{self.weight}' is also a feature"

    def _problems_of_slices(self) -> Iterator[str]:
        for name in self.evaluate.slices:
            feature = self.features.get(name)
            if feature is None:
                yield f"evaluate.slices: '{name}' is not a feature"
            elif feature.shape or feature.is_variable_length:
                yield f"evaluate.slices: '{name}' is not a scalar"

    def _problems_of_class_weights(self) -> Iterator[str]:
        for head, weights in self.train.class_weights.items():
            known = self.heads[head].classes if head in self.heads else ()
            if not known:
                yield f"train.class_weights: '{head}' is not a head with classes"
            elif unknown := sorted(weights.keys() - set(known)):
                yield (
                    f"train.class_weights.{head}: '{unknown[0]}' is not a class of the head "
                    f"(classes: {', '.join(known)})"
                )

    def _problems_of_blessing(self) -> Iterator[str]:
        if self.bless.head and self.bless.head not in self.heads:
            yield f"bless.head: '{self.bless.head}' is not a head"
        for head in self.bless.head_margins.keys() - self.heads.keys():
            yield f"bless.head_margins: '{head}' is not a head"
        for name in self.bless.slice_margins.keys() - set(self.evaluate.slices):
            yield f"bless.slice_margins: '{name}' is not in evaluate.slices"

    def _problems_of_labels(self) -> Iterator[str]:
        if self.labels is None:
            return
        asked = [name for name, head in self.heads.items() if head.classes]
        if self.labels.head and self.labels.head not in asked:
            yield f"labels.head: '{self.labels.head}' is not a head with classes"
        elif not self.labels.head and len(asked) != 1:
            known = ", ".join(asked) or "there is none"
            yield f"labels.head: expected one of the heads with classes ({known})"
        if self.labels.min_answers > self.labels.people:
            yield (
                f"labels.min_answers: expected at most labels.people ({self.labels.people}), found "
                f"{self.labels.min_answers}: no row would ever have a label"
            )
        for name in self.labels.min_slice_accuracy:
            if name.partition("=")[0] not in self.evaluate.slices:
                yield f"labels.min_slice_accuracy: '{name}' is not of a feature in evaluate.slices"
        if self.serve.prediction_log_inputs_ratio == 0.0:
            yield (
                "labels: people are asked about logged inputs; expected "
                "serve.prediction_log_inputs_ratio above 0, found 0"
            )

    def label_column(self, head: str) -> str:
        """Return the raw column that holds a head's label."""
        return self.heads[head].column or head

    @property
    def blessing_head(self) -> str:
        """The head whose metric decides between models."""
        return self.bless.head or next(iter(self.heads))
