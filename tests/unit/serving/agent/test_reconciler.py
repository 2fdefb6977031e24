"""What an agent says before it knows what runs."""

from collections.abc import Mapping
from typing import Any

import pytest

from contract.errors import ServiceUnavailableError
from serving.agent.backends.backend_kind import OpenBackend
from serving.agent.draining import Draining
from serving.agent.hosts.host import ServerState
from serving.agent.plans import PlanStore
from serving.agent.reconciler import Reconciler
from serving.traffic.backend import Capabilities, Version


class SilentHost:
    """A host that does not answer."""

    def states(self) -> Mapping[Version, ServerState]:
        raise ServiceUnavailableError("supervisord does not answer")


def test_an_agent_that_cannot_know_yet_what_runs_does_not_say_that_nothing_runs(tmp_path) -> None:
    plans = PlanStore(tmp_path, Capabilities(1, 2, has_shadow=True))
    host: Any = SilentHost()
    backend: Any = None  # is not asked
    opened = OpenBackend(backend)
    agent = Reconciler(plans, host, opened, Draining(2.0, 30.0), tmp_path / "state")
    with pytest.raises(ServiceUnavailableError, match="supervisord does not answer"):
        agent.observe("digits")
