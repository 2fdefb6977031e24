"""Follow a rollout until it is over, redrawn at a terminal, else a line for each change."""

import time
from collections.abc import Callable
from datetime import UTC, datetime

from rich.live import Live

from cli.output import data, print_json_line, say
from cli.rollouts.view import headline, view
from components.runs.agent_client import AgentClient
from contract.errors import NotFoundError
from contract.records.rollout import Rollout

_POLL_SECONDS = 0.5
_NEWS_SECONDS = 10.0


def follow(client: AgentClient, name: str, is_json: bool) -> Rollout:
    """Show a rollout until it is over, and return its end; one that has not begun is waited for."""
    if is_json:
        return _until_over(client, name, _JsonLines())
    if not data.is_terminal:
        return _until_over(client, name, _Lines())
    with Live(console=data, auto_refresh=False) as live:

        def show(rollout: Rollout) -> None:
            live.update(view(rollout, datetime.now(UTC)), refresh=True)

        return _until_over(client, name, show)


def _until_over(client: AgentClient, name: str, show: Callable[[Rollout], None]) -> Rollout:
    has_begun = has_said = False
    while True:
        rollout = _present(client, name)
        if rollout is not None:
            has_begun = True
            show(rollout)
            if rollout.is_over:
                return rollout
        elif not has_begun and not has_said:
            has_said = True
            say(f"{name}: waits for a trial to begin; Ctrl-C ends this")
        time.sleep(_POLL_SECONDS)


def _present(client: AgentClient, name: str) -> Rollout | None:
    """Return the trial in progress, else the last one; None where the next has no record yet."""
    try:
        rollout = client.rollout(name)
    except NotFoundError:
        return None
    return None if rollout.is_over and _is_before(rollout, client) else rollout


def _is_before(rollout: Rollout, client: AgentClient) -> bool:
    """Tell whether the last trial is over and another version's has begun, with no record yet."""
    trial = client.plan(rollout.pipeline).trial
    return trial is not None and trial[0] != rollout.version


class _JsonLines:
    """One JSON document a line, for each look that is new."""

    def __init__(self) -> None:
        self._last: datetime | None = None

    def __call__(self, rollout: Rollout) -> None:
        if rollout.looked_at != self._last:
            self._last = rollout.looked_at
            print_json_line(rollout.model_dump(mode="json"))


class _Lines:
    """One line for each change of state or rung, and every ten seconds."""

    def __init__(self) -> None:
        self._last: tuple[str, str] | None = None
        self._said_at = 0.0

    def __call__(self, rollout: Rollout) -> None:
        where, now = (rollout.phase, rollout.state), time.monotonic()
        if where == self._last and now - self._said_at < _NEWS_SECONDS:
            return
        self._last, self._said_at = where, now
        data.print(headline(rollout))
        data.print(f"  {rollout.reason}", markup=False)
        if not rollout.is_over:
            data.print(f"  {rollout.time_to_go}", markup=False)
