"""The one command line of a component, for a person, Airflow and a pod alike."""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from contract.loader import parse_overrides
from contract.programs import component_program, program_command
from contract.steps import STEPS, steps_of


@dataclass(frozen=True)
class StepCommand:
    """What to run: one step of one run of one pipeline."""

    step: str
    pipeline: str
    run_id: str
    root: str
    overrides: Mapping[str, Any] = field(default_factory=dict)
    redeploy_version: int | None = None
    replica: int = 0

    def arguments(self, python: str = sys.executable, program: Sequence[str] = ()) -> list[str]:
        """Return the command line that runs the step; `program` is one in our component's place."""
        component = STEPS[self.step].component
        command = [*program] or program_command(component_program(component), python)
        command += ["--pipeline", self.pipeline, "--run-id", self.run_id, "--root", self.root]
        if component != self.step:
            command += ["--stage", self.step]
        if self.redeploy_version is not None:
            command += ["--redeploy-version", str(self.redeploy_version)]
        if self.replica:
            command += ["--replica", str(self.replica)]
        for key, value in self.overrides.items():
            command += ["--set", f"{key}={json.dumps(value)}"]
        return command

    @classmethod
    def parse(cls, component: str, arguments: Sequence[str]) -> "StepCommand":
        """Read a component's command line; `--help` and errors end the process as argparse does."""
        stages = steps_of(component)
        parser = argparse.ArgumentParser(
            prog=f"python -m {component_program(component)}",
            description=f"Run the component '{component}' of one pipeline run.",
        )
        parser.add_argument("--pipeline", required=True, help="pipeline name, as in 'digits'")
        parser.add_argument("--run-id", required=True, help="any name; steps of a run share it")
        parser.add_argument("--root", required=True, help="artifact root, a path")
        parser.add_argument(
            "--set", action="append", default=[], metavar="KEY=VALUE", help="config override"
        )
        parser.add_argument("--stage", choices=stages, default=stages[0], help="which step")
        parser.add_argument(
            "--redeploy-version", type=int, help="package this kept version again, as a new one"
        )
        parser.add_argument(
            "--replica", type=int, default=0, help="help the step's owner, which is replica 0"
        )
        parsed = parser.parse_args(arguments)
        return cls(
            step=parsed.stage,
            pipeline=parsed.pipeline,
            run_id=parsed.run_id,
            root=parsed.root,
            overrides=parse_overrides(parsed.set),
            redeploy_version=parsed.redeploy_version,
            replica=parsed.replica,
        )
