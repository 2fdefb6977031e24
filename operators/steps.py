"""What single steps do besides running their component: they gate, watch and announce."""

import time
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from airflow.sdk import Asset, AssetAlias, SkipMixin

from contract.layout import RunLayout
from contract.records.evaluation import BlessRecord
from contract.records.record import Result
from contract.records.traffic import DeployRecord
from contract.records.training import TrainingEnded
from operators.component import ComponentOperator, PipelineRef
from operators.notify import Kind, Notice, announce
from operators.run_note import write_note

_LOOK_SECONDS = 10.0
_LOST_STATES = ("failed", "upstream_failed", "skipped", "removed")


class EvaluateOperator(ComponentOperator):
    """Judges checkpoints while they are made; ends, too, when training has failed for good.

    Airflow's own state of `train` decides that: only Airflow knows whether there will be a retry,
    and a task that was killed, or marked as failed, can leave no word itself.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._looked = 0.0

    def watch(self, run: RunLayout, context: Any) -> None:
        if time.monotonic() - self._looked < _LOOK_SECONDS or run.training_ended.exists():
            return
        self._looked = time.monotonic()
        states = context["ti"].get_task_states(
            dag_id=self.dag_id, task_ids=["train"], run_ids=[run.run_id]
        )
        state = states.get(run.run_id, {}).get("train")
        if state in _LOST_STATES:
            reason = f"task 'train' is {state}"
            self.log.warning("%s: no more checkpoints will come", reason)
            TrainingEnded(
                has_succeeded=False, last_step=0, reason=reason, ended_at=datetime.now(UTC)
            ).write(run.training_ended)


class _Announcing:
    """A step whose result may be a matter for people; how it runs is the other base class's."""

    pipeline: PipelineRef
    task_id: str

    def _announce(self, kind: Kind, reasons: Iterable[str], context: Any) -> None:
        task = context["ti"]
        notice = Notice(
            kind,
            self.pipeline.name,
            task.run_id,
            self.task_id,
            tuple(reasons),
            getattr(task, "log_url", ""),
        )
        announce(self.pipeline.notify, notice, context)


class _Gate(_Announcing):
    """A step whose result may end the run: as a success, with everything after it skipped."""

    inherits_from_skipmixin = True
    skip: Any  # of Airflow's SkipMixin, which must come last among the bases

    def _close(self, kind: Kind, outcome: str, reasons: Iterable[str], context: Any) -> None:
        reasons = tuple(reasons)
        write_note(self.pipeline.run(context["ti"].run_id), outcome, reasons)
        self._announce(kind, reasons, context)
        self.skip(context["ti"], context["task"].get_flat_relatives(upstream=False))


class Bless(_Gate):
    """Blesses the candidate, or ends the run."""

    def conclude(self, result: Result, context: Any) -> None:
        record = result.detail_as(BlessRecord)
        if not record.is_blessed:
            self._close("refused", "not blessed", record.reasons, context)


class Canary(_Gate):
    """Tries the package on real traffic; ends the run if it did not pass."""

    def conclude(self, result: Result, context: Any) -> None:
        record = result.detail_as(DeployRecord)
        if not record.continues_run:
            self._close(_kind_of(record), _outcome(record), _reasons(record), context)


class Promote(_Announcing):
    """Makes the package the champion, and emits the model's asset event if it did become that."""

    model: Asset
    alias: AssetAlias

    def emits(self, model: Asset) -> list[AssetAlias]:
        """Note the model and return the outlets: an alias, which emits only what is put into it.

        Airflow emits plain outlets on every success, and a roll-back is a success that deploys
        nothing.
        """
        self.model, self.alias = model, AssetAlias(f"{model.uri}/deployed")
        return [self.alias]

    def conclude(self, result: Result, context: Any) -> None:
        record = result.detail_as(DeployRecord)
        run = self.pipeline.run(result.run_id)
        write_note(run, _outcome(record), record.reasons, record.version)
        if record.is_in_service:
            extra = {"version": record.version, "run_id": result.run_id}
            context["outlet_events"][self.alias].add(self.model, extra=extra)
        else:
            self._announce(_kind_of(record), _reasons(record), context)


class BlessOperator(Bless, ComponentOperator, SkipMixin):
    """`bless` as a process of this machine."""


class CanaryOperator(Canary, ComponentOperator, SkipMixin):
    """`canary` as a process of this machine."""


class PromoteOperator(Promote, ComponentOperator):
    """`promote` as a process of this machine."""

    def __init__(self, *, model: Asset, **kwargs: Any) -> None:
        super().__init__(outlets=self.emits(model), **kwargs)


def _kind_of(record: DeployRecord) -> Kind:
    return "refused" if record.outcome == "refused" else "rolled back"


def _outcome(record: DeployRecord) -> str:
    return record.outcome.replace("_", " ")


def _reasons(record: DeployRecord) -> tuple[str, ...]:
    return record.reasons or (record.outcome,)
