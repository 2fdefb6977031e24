"""One pipeline: check it, run it, ask its model."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from contract.errors import ConfigError
from slipway.run import Run

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd

    from cli.checks.findings import Finding
    from contract.records.package import LoadReport


class Check:
    """What `slipway check` found, in order."""

    def __init__(self, findings: "tuple[Finding, ...]") -> None:
        self.findings = findings

    @property
    def is_ok(self) -> bool:
        """Whether nothing is wrong; warnings are not."""
        return not any(finding.state == "error" for finding in self.findings)

    def require(self) -> "Check":
        """Return this check, or raise ConfigError with everything that is wrong."""
        wrong = [f"{f.subject}: {f.message}" for f in self.findings if f.state == "error"]
        if wrong:
            raise ConfigError(wrong)
        return self

    @property
    def frame(self) -> "pd.DataFrame":
        """A row per finding: subject, state (ok, warning, error), message."""
        import pandas as pd

        columns = ["subject", "state", "message"]
        return pd.DataFrame([finding.as_dict() for finding in self.findings], columns=columns)

    def __repr__(self) -> str:
        return "\n".join(f"{f.state:7}  {f.subject}: {f.message}" for f in self.findings)

    def _repr_html_(self) -> str:
        return str(self.frame.style.hide().to_html())


class Pipeline:
    """A pipeline by its name; made by `Slipway.pipeline` and `Slipway.new`."""

    def __init__(self, name: str) -> None:
        self.name = name

    @property
    def folder(self) -> "Path":
        """Where its files lie: pipeline.yaml, preprocessing.py, model.py."""
        from contract.pipelines import find_pipeline

        return find_pipeline(self.name)

    def check(self, set: Mapping[str, Any] | None = None) -> Check:
        """Check config, code, data files, disk and services, as `slipway check` does.

        Args:
            set: Config values in place of the file's, as `{"train.steps": 200}`.
        """
        from cli.checks.preflight import check_pipeline
        from cli.stack.stack_file import run_root

        return Check(tuple(check_pipeline(self.folder, dict(set or {}), run_root())))

    def run(
        self,
        *,
        local: bool = False,
        deploy: bool = False,
        set: Mapping[str, Any] | None = None,
    ) -> Run:
        """Start a run and return it at once.

        Args:
            local: Run the components here, as processes of this one: they end with it, and
                `Run.resume` resumes them. Otherwise in Airflow, which always deploys.
            deploy: Of a local run: continue with canary and promotion after the package.
            set: Config values in place of the file's, as `{"train.steps": 200}`.

        Raises:
            ConfigError: If the config or `set` is wrong, with every problem at once.
            ServiceUnavailableError: If it needs services, and none are running.
        """
        from slipway.starting import started

        begun = started(self.name, is_local=local, is_deploying=deploy, overrides=dict(set or {}))
        return Run(self.name, *begun)

    def runs(self, most: int = 5) -> list[Run]:
        """Return the latest runs, newest first, however they were started."""
        from cli.runs.standing import standing_of

        return [Run(self.name, run["run_id"]) for run in standing_of(self.name, most)["runs"]]

    def predict(self, frame: "pd.DataFrame", version: int | None = None) -> "pd.DataFrame":
        """Ask what is in service for each row of a frame, over HTTP.

        Columns that the model does not take are left out; NaN, None and NA are missing values.

        Args:
            frame: Rows with the features as columns; one that has a default may be absent.
            version: Ask this version, which must run; without it the traffic plan decides which
                version answers.

        Returns:
            A row per row, with the frame's index: by head `<head>`, the most likely class or the
            value, and `<head>:<class>`, its probability. `attrs["versions"]` says which versions
            answered.

        Raises:
            DataError: If a column is missing or a row cannot be sent, with its number and index.
            NotFoundError: If nothing is in service.
            ServiceUnavailableError: If no services are running, or none answers.
            UserError: If the server refuses the rows.
        """
        from slipway.predicting import predict

        return predict(self.name, frame, version)

    @contextmanager
    def replay(self, rate: float) -> "Iterator[list[LoadReport]]":
        """Send test rows at a steady rate while the block runs: a stand-in for users.

        A canary is judged on requests; where nobody calls, nothing decides. After the block the
        list has one report of what was sent and answered.

        Args:
            rate: Requests a second.
        """
        from cli.requests.background_replay import replaying
        from cli.stack.stack_file import require_stack

        require_stack()
        with replaying(self.name, rate) as reports:
            yield reports

    def __repr__(self) -> str:
        return f"<Pipeline {self.name}: {self.folder}>"
