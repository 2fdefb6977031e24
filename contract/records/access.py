"""Tokens of the serving agent's control API and the label page, and what each of them may do."""

from datetime import datetime
from typing import Literal

from pydantic import Field

from contract.records.record import Record

Right = Literal["read", "propose", "approve", "label", "review", "report"]
ALL_PIPELINES = "*"


class AgentToken(Record):
    """One token besides the owner's, of which only a digest is kept."""

    name: str = Field(description="What messages call it; never the token itself.")
    digest: str = Field(description="'sha256:' and the digest of the token.")
    rights: tuple[Right, ...] = Field(
        description="What it may do: read plans and what is seen of them, propose plans, approve "
        "(hold and resume trials), label (answer questions on the label page, nothing else), or "
        "review (decide where labellers disagree, nothing else), or report (what has turned out "
        "to be true of predictions, nothing else)."
    )
    pipelines: tuple[str, ...] = Field(
        (ALL_PIPELINES,), description="Names of the pipelines for which it may; '*' is every one."
    )
    created_at: datetime = Field(description="When it was made.")

    def may(self, right: Right, pipeline: str) -> bool:
        """Tell whether it has a right for a pipeline; '*' asks for all of them."""
        of_pipeline = ALL_PIPELINES in self.pipelines or pipeline in self.pipelines
        return right in self.rights and of_pipeline

    @property
    def in_words(self) -> str:
        """What it may, for messages."""
        return f"{', '.join(self.rights)} for {', '.join(self.pipelines)}"


class AgentTokens(Record):
    """`agent.tokens.json`: the tokens besides the owner's, written by `slipway token`."""

    tokens: tuple[AgentToken, ...] = Field((), description="All of them, in the order of making.")

    def named(self, name: str) -> AgentToken | None:
        """Return the token of a name."""
        return next((token for token in self.tokens if token.name == name), None)
