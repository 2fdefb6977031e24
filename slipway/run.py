"""One run of a pipeline: follow it, read what it measured, deploy what it packaged."""

from typing import TYPE_CHECKING, Any

from contract.errors import EXIT_USER_ERROR, NotFoundError, SlipwayError, UserError
from slipway.version import Version

if TYPE_CHECKING:
    import pandas as pd

    from cli.runs.outcome import Ending
    from contract.layout import RunLayout
    from slipway.report import Report
    from slipway.work import Work

_LOCAL = "local-"
_LOOKED_AT = 100  # runs: as many as Airflow tells at once; retention keeps fewer
_OPEN = frozenset({"queued", "running", "in canary", "waits for approval"})


class Run:
    """A run by its id. One that `Pipeline.run` has started locally continues in this process."""

    def __init__(self, pipeline: str, run_id: str, work: "Work | None" = None) -> None:
        self.pipeline, self.run_id = pipeline, run_id
        self._work = work

    @property
    def is_local(self) -> bool:
        """Whether its components are processes of this machine, without Airflow."""
        return self.run_id.startswith(_LOCAL)

    @property
    def outcome(self) -> str:
        """How it ended, or what it is doing, in the words of `slipway status`."""
        return str(self._standing()["outcome"])

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why it ended so, or what it waits for."""
        return tuple(self._standing()["reasons"])

    def follow(self) -> "Run":
        """Wait until the run has ended, with a progress bar where one can be drawn.

        An interrupt (Kernel, Interrupt) ends the waiting only; `cancel` ends the run.

        Returns:
            This run. A model that was refused or rolled back is a result, and no error.

        Raises:
            UserError: If config, code or data are wrong; with the step and its reasons.
            SlipwayError: If the run failed otherwise.
        """
        self._ending(is_shown=True)
        return self

    def wait(self) -> "Run":
        """Wait as `follow` does, and show nothing."""
        self._ending(is_shown=False)
        return self

    def cancel(self) -> "Run":
        """End the run; what it has made stays.

        Raises:
            UserError: If it has ended already, or is a local run of another process.
        """
        from cli.runs.starting import end_in_airflow

        if not self.is_local:
            end_in_airflow(self.pipeline, self.run_id, "Run.cancel")
        elif self._work is None or not self._work.is_running:
            raise UserError(f"{self.run_id}: it has ended, or runs in another process")
        else:
            self._work.cancel()
        return self

    def resume(self, *, deploy: bool = False) -> "Run":
        """Resume a local run that was ended or has failed; what is done is not done again.

        Raises:
            UserError: If the run is one of Airflow, or is running here.
        """
        from slipway.starting import resumed

        if not self.is_local:
            raise UserError(f"{self.run_id}: a run in Airflow is resumed there: clear its task")
        if self._work is not None and self._work.is_running:
            raise UserError(f"{self.run_id}: it is running")
        self._work = resumed(self.pipeline, self.run_id, deploy)
        return self

    def deploy(self) -> Version:
        """Put the run's model into service: canary, promotion; waits for the end, as `follow`.

        The first version of a pipeline goes into service at once. A later one is judged on
        requests; where nobody calls, `Pipeline.replay` makes some.

        Returns:
            The version, and what came of it: it is promoted, or rolled back with the reasons.

        Raises:
            ServiceUnavailableError: If no services are running.
            UserError: If the run was refused, or has failed.
        """
        from cli.stack.stack_file import require_stack

        require_stack()
        ending = self._ending(is_shown=True)
        if self.is_local and ending.outcome == "packaged":
            self.resume(deploy=True)
            ending = self._ending(is_shown=True)
        if ending.version is None:
            reasons = "; ".join(ending.reasons)
            raise UserError(f"{self.run_id}: {ending.outcome}: nothing to deploy: {reasons}")
        return Version(self.pipeline, ending.version, ending.outcome, ending.reasons)

    @property
    def metrics(self) -> "pd.DataFrame":
        """What was measured on the test split: a row per head and metric, with its interval.

        Columns are `value`, `low`, `high` (at `bless.confidence`) and `champion`, the value of the
        version in service on the same rows, NaN where there was none.

        Raises:
            NotFoundError: If the run has not got so far.
        """
        import pandas as pd

        from cli.runs.run_report import metrics_of

        found = metrics_of(self._layout)
        if not found:
            raise NotFoundError(
                f"{self.run_id}: no metrics yet: step 'bless' measures them; the run is "
                f"'{self.outcome}'"
            )
        index = pd.MultiIndex.from_tuples(found, names=["head", "metric"])
        rows = [
            (own.value, own.low, own.high, champion.value if champion else None)
            for own, champion in found.values()
        ]
        columns = ["value", "low", "high", "champion"]
        return pd.DataFrame(rows, index=index, columns=columns, dtype=float)

    def report(self) -> "Report":
        """Return steps, metrics, the optimiser's ledger and the canary as tables."""
        from cli.runs.run_report import report_of
        from slipway.report import Report

        return Report(report_of(self._layout, self._standing()))

    def __repr__(self) -> str:
        standing = self._standing()
        version = f", version {standing['version']}" if standing["version"] else ""
        return f"<Run {self.run_id} of {self.pipeline}: {standing['outcome']}{version}>"

    @property
    def _layout(self) -> "RunLayout":
        from cli.stack.stack_file import run_root
        from contract.layout import RunLayout

        return RunLayout(run_root(), self.pipeline, self.run_id)

    def _standing(self) -> dict[str, Any]:
        from cli.runs.standing import standing_of

        runs = standing_of(self.pipeline, _LOOKED_AT)["runs"]
        found = next((run for run in runs if run["run_id"] == self.run_id), None)
        if self._work is not None and self._work.is_running:
            if found is not None and found["outcome"] in _OPEN:
                return dict(found)
            # Before its first step, and between two, no record says that it continues.
            return {"outcome": "running", "reasons": (), "version": None, "failed_step": ""}
        return dict(found) if found is not None else self._without_records()

    def _without_records(self) -> dict[str, Any]:
        """Return the standing of a run that Airflow knows and that has not done anything."""
        from dataclasses import asdict

        from cli.runs.run_states import ask_airflow, state_of
        from cli.stack.stack_file import read_stack
        from contract.records.traffic import TrafficPlan

        airflow = ask_airflow(read_stack(), self.pipeline, _LOOKED_AT)
        if self._layout.path.name not in airflow.states:
            problem = f"; {airflow.problem}" if airflow.problem else ""
            raise NotFoundError(f"{self.pipeline}: no run {self.run_id}{problem}")
        return asdict(state_of(self._layout, TrafficPlan(pipeline=self.pipeline), airflow))

    def _is_open(self) -> bool:
        """Tell whether a run in Airflow has not ended; a new one has no record yet."""
        try:
            return self.outcome in _OPEN
        except NotFoundError:
            return True

    def _ending(self, *, is_shown: bool) -> "Ending":
        """Wait for the end and return it; raise what failed."""
        from slipway.cell import show_until_ended
        from slipway.starting import airflow_work

        if self._work is None and not self.is_local and self._is_open():
            self._work = airflow_work(self.pipeline, self.run_id)
        if self._work is None:
            ending = self._recorded()
        else:
            if is_shown and self._work.is_running:
                show_until_ended(self._work)
            ending = self._work.result()
        if ending.outcome == "failed":
            kind = UserError if ending.exit_code == EXIT_USER_ERROR else SlipwayError
            where = f" in '{ending.failed_step}'" if ending.failed_step else ""
            told = [f"{self.run_id} failed{where}", *ending.reasons, *ending.log]
            raise kind("\n".join(told))
        return ending

    def _recorded(self) -> "Ending":
        """Return how a run that this process does not run has ended, by its records."""
        from cli.runs.outcome import Ending, failed

        standing = self._standing()
        if standing["outcome"] in _OPEN:
            raise UserError(f"{self.run_id}: it runs in another process; follow it there")
        recorded = failed(self._layout)
        return Ending(
            recorded.exit_code if recorded is not None else 0,
            standing["outcome"],
            tuple(standing["reasons"]),
            standing["version"],
            standing["failed_step"],
        )
