"""Who answers, for the page of live predictions: asked of the agent, if services are running."""

from typing import TYPE_CHECKING

from cli.extras import absence
from cli.stack.stack_file import open_agent, read_stack
from contract.errors import NotFoundError

if TYPE_CHECKING:
    from components.runs.agent_client import AgentClient
    from contract.records.rollout import Rollout
    from serving.labels.stream.traffic import Ask, Traffic

_PATIENCE_SECONDS = 0.0  # the page asks again


def traffic() -> "Ask":
    """Return what asks the agent of this machine."""
    from serving.labels.stream.traffic import Traffic, nobody

    def ask(pipeline: str) -> "Traffic":
        if (stack := read_stack()) is None or absence("components"):
            return nobody(pipeline)
        with open_agent(stack, _PATIENCE_SECONDS) as client:
            return Traffic(client.plan(pipeline), _rollout(client, pipeline))

    return ask


def _rollout(client: "AgentClient", pipeline: str) -> "Rollout | None":
    try:
        return client.rollout(pipeline)
    except NotFoundError:
        return None
