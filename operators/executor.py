"""Airflow's LocalExecutor, but it waits for the end of a task where the scheduler would look again.

Airflow's scheduler sleeps between two looks at its database, each of which costs 60 ms of CPU. A
long sleep holds up a run at every step, a short one keeps a core busy while nothing happens. The
executor is asked between two looks, and knows when a task ends: it lets the scheduler wait there,
and go on at once.
"""

import time
from collections.abc import Sequence
from typing import Any

from airflow.executors.local_executor import LocalExecutor

# What a run that somebody starts waits for, half of it on average: Airflow's own pause.
PAUSE_SECONDS = 1.0
_LOOK_SECONDS = 0.02  # at a pipe, which costs microseconds


class WaitingExecutor(LocalExecutor):
    """Runs tasks as LocalExecutor does, and is the scheduler's pause between two looks."""

    _has_started = False

    def sync(self) -> None:
        """Take the results of tasks; wait for one first, unless tasks were started just now."""
        until = time.monotonic() + (0 if self._has_started else PAUSE_SECONDS)
        while self.result_queue.empty() and time.monotonic() < until:
            time.sleep(_LOOK_SECONDS)
        self._has_started = False
        super().sync()

    def _process_workloads(self, workload_list: Sequence[Any]) -> None:
        super()._process_workloads(workload_list)
        self._has_started = bool(workload_list)
