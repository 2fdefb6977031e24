"""`make demo`: three acts on real data, in real Airflow.

1. `digits`, a small dense model: from raw data to 100 % of the traffic.
2. A convolutional one: judged against the first, shadowed, tried as a canary, promoted.
3. Act 2's package again, its server made to fail on a tenth of its requests: rolled back.

Everything is in a separate folder and listens on free loopback ports. All of it is removed at the
end, unless an act did not end as expected: then its logs stay.
"""

import json
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from rich.markup import escape

from cli.commands.running import run_in_airflow
from cli.commands.services import plan_stack, show_stack, start_stack
from cli.demo import report as demo_report
from cli.demo.acts import ACTS, PIPELINE, TYPICAL_SECONDS, Act, Played
from cli.demo.callers import Callers
from cli.demo.stage import run_demo
from cli.output import say
from cli.requests.rows import MOST_ROWS, rows_of_last_run
from cli.runs.starting import layout_of, new_run_id
from contract.command import StepCommand
from contract.errors import EXIT_DONE, EXIT_UNEXPECTED, SlipwayError
from contract.layout import PipelineLayout
from contract.loader import state_folder


def main() -> int:
    """Play the demo and return the exit code: 0 only if all acts ended as expected."""
    return run_demo(_play)


def _play(home: Path) -> int:
    began = time.monotonic()
    plan = plan_stack([], True, _loopback_only())
    start_stack(plan)
    show_stack(plan.stack)
    say(f"[dim]Services are healthy after {time.monotonic() - began:.0f} s.[/]\n")
    played: list[Played] = []
    for act in ACTS:
        played.append(_play_act(act, plan.root, played))
        demo_report.show_act(played[-1])
        if not played[-1].is_as_expected:
            say(f"[bold red]The demo stops here[/]: logs are in {escape(str(home))}")
            return EXIT_UNEXPECTED
    demo_report.show_table(played, plan.stack)
    say(f"The demo took {time.monotonic() - began:.0f} s.\n")
    demo_report.serve(plan.stack, PIPELINE, _rows_file(plan.root, "request.json", 1))
    return EXIT_DONE


def _play_act(act: Act, root: Path, before: Sequence[Played]) -> Played:
    """Run one act; from the second on, callers ask the data plane once there is a package."""
    say(f"[bold cyan]{act.title}[/]")
    began = time.monotonic()
    redeployed = before[-1].version if act.expected_outcome == "rolled_back" else None
    command = StepCommand(
        step="ingest",
        pipeline=PIPELINE,
        run_id=new_run_id(f"act{len(before) + 1}"),
        root=str(root),
        overrides=act.overrides,
        redeploy_version=redeployed,
    )
    run = layout_of(command)
    callers = Callers(run, _rows_file(root, "rows.json", MOST_ROWS)) if before else None
    try:
        ending = run_in_airflow(command, TYPICAL_SECONDS)
    except BaseException:
        with suppress(SlipwayError):
            if callers:
                callers.leave()
        raise
    report = callers.leave() if callers else None
    for line in ending.log:
        say(f"  {escape(line)}")
    return Played(
        act,
        run,
        ending.outcome,
        ending.reasons,
        ending.version,
        time.monotonic() - began,
        report,
    )


def _rows_file(root: Path, name: str, count: int) -> Path:
    """Write rows of the test split as a request, once, and return the file."""
    path = state_folder() / name
    if not path.exists():
        rows = rows_of_last_run(PipelineLayout(root, PIPELINE))[:count]
        path.write_text(json.dumps({"instances": rows}), encoding="utf-8")
    return path


def _loopback_only() -> Any:
    from cli.stack.stack import DataPlaneOptions

    return DataPlaneOptions()


if __name__ == "__main__":
    sys.exit(main())
