"""The serving agent's control API as its callers see it: read a plan, propose one, observe."""

import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self, TypeVar
from urllib.parse import quote

import httpx
from pydantic import ValidationError

from contract.addresses import AUTHOR_HEADER
from contract.clients.http import error_of, open_client, reason_of, said
from contract.errors import (
    ConfigError,
    ConflictError,
    NotFoundError,
    ServiceUnavailableError,
    SlipwayError,
    UserError,
)
from contract.records.record import Record
from contract.records.rollout import Rollout
from contract.records.traffic import Observation, TrafficPlan
from contract.tokens import read_token

RecordT = TypeVar("RecordT", bound=Record)

log = logging.getLogger("slipway")
_ANSWER_SECONDS = 10.0
_FIRST_PAUSE_SECONDS = 0.1
_LONGEST_PAUSE_SECONDS = 1.0
_TRANSIENT = frozenset({502, 503, 504})


class PlanConflictError(ConflictError):
    """The plan was changed since it was read; `current` is what it is now."""

    def __init__(self, message: str, current: TrafficPlan) -> None:
        self.current = current
        super().__init__(message)


class AgentClient:
    """Talks to one agent. An agent that is restarting is waited for; its answers are not doubted.

    Args:
        url: Such as `http://127.0.0.1:8600`.
        token: The bearer token; it appears in no message and no repr.
        patience_seconds: How long to try again while nobody answers, as while an agent restarts.
        author: Whose trial the calls are about; each of them renews its lease. Empty: nobody's.
    """

    def __init__(
        self, url: str, token: str, patience_seconds: float = 20.0, author: str = ""
    ) -> None:
        self._url = url.rstrip("/")
        self._patience_seconds = patience_seconds
        self._http = open_client(self._url, _ANSWER_SECONDS, token)
        if author:
            self._http.headers[AUTHOR_HEADER] = quote(author)

    @classmethod
    def with_token_file(cls, url: str, token_file: Path, author: str = "") -> Self:
        """Return a client whose token is the content of a file."""
        try:
            return cls(url, read_token(token_file), author=author)
        except ConfigError as error:
            raise NotFoundError(f"{error} (the serving agent's; start it: 'slipway up')") from error

    def __repr__(self) -> str:
        return f"AgentClient({self._url!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def plan(self, pipeline: str) -> TrafficPlan:
        """Return the plan in force; its generation is 0 where there is none yet."""
        return self._get(f"/v1/pipelines/{pipeline}/plan", TrafficPlan)

    def observation(self, pipeline: str) -> Observation:
        """Return what the agent sees of the pipeline's versions now."""
        return self._get(f"/v1/pipelines/{pipeline}/observation", Observation)

    def propose(self, plan: TrafficPlan) -> TrafficPlan:
        """Store a plan whose `generation` is the one that was read, and return it as stored.

        Raises:
            PlanConflictError: If the plan has changed since; it carries the plan in force.
            UserError: If the agent refuses it (an unknown version) or the token.
        """
        content = plan.model_dump_json()
        answer = self._answer(
            lambda: self._http.put(f"/v1/pipelines/{plan.pipeline}/plan", content=content)
        )
        if answer.status_code != httpx.codes.CONFLICT:
            return self._record(answer, TrafficPlan)
        current = _read(answer, TrafficPlan, answer.json().get("plan"))
        if _is_same_decision(plan, current):
            return current
        raise PlanConflictError(
            f"{plan.pipeline}: the traffic plan was changed to generation {current.generation} by "
            f"{current.author or 'somebody'}, expected generation {plan.generation}: "
            f"{current.reason or 'no reason given'}",
            current,
        )

    def rollout(self, pipeline: str) -> Rollout:
        """Return what is known of the trial in progress, or of the last one.

        Raises:
            NotFoundError: If there was none.
        """
        return self._get(f"/v1/pipelines/{pipeline}/rollout", Rollout)

    def pause(self, pipeline: str, author: str, reason: str) -> TrafficPlan:
        """Hold the trial in progress on its rung, and return the plan that says so.

        Raises:
            UserError: If there is none.
        """
        path, order = f"/v1/pipelines/{pipeline}/hold", {"author": author, "reason": reason}
        return self._record(self._answer(lambda: self._http.put(path, json=order)), TrafficPlan)

    def resume(self, pipeline: str) -> TrafficPlan:
        """Let the trial on hold continue, and return the plan that says so.

        Raises:
            UserError: If none is on hold.
        """
        path = f"/v1/pipelines/{pipeline}/hold"
        return self._record(self._answer(lambda: self._http.delete(path)), TrafficPlan)

    def _get(self, path: str, record: type[RecordT]) -> RecordT:
        return self._record(self._answer(lambda: self._http.get(path)), record)

    def _record(self, answer: httpx.Response, record: type[RecordT]) -> RecordT:
        if answer.is_success:
            return _read(answer, record, answer.json())
        raise _refusal(answer)

    def _answer(self, call: Callable[[], httpx.Response]) -> httpx.Response:
        """Return the first answer that is one, trying again for `patience_seconds`."""
        deadline = time.monotonic() + self._patience_seconds
        pause = _FIRST_PAUSE_SECONDS
        while True:
            try:
                answer = call()
                if answer.status_code not in _TRANSIENT:
                    return answer
                trouble = f"status {answer.status_code}"
            except httpx.TransportError as error:
                trouble = said(error)
            if time.monotonic() + pause > deadline:
                raise ServiceUnavailableError(
                    f"serving agent at {self._url}: no answer within {self._patience_seconds:g} s "
                    f"({trouble}); start it with 'make up', its log is in logs/ of the state folder"
                )
            log.debug("serving agent at %s: %s, trying again", self._url, trouble)
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)


def _is_same_decision(proposed: TrafficPlan, current: TrafficPlan) -> bool:
    """Tell whether a conflict is with our own proposal: stored, but its answer was lost."""
    changed_by_agent = {
        *("generation", "written_at", "record_version"),
        *("champions", "bad", "hold", "withdrawn"),
    }
    return current.generation == proposed.generation + 1 and current.model_dump(
        exclude=changed_by_agent
    ) == proposed.model_dump(exclude=changed_by_agent)


def _read(answer: httpx.Response, record: type[RecordT], raw: Any) -> RecordT:
    try:
        return record.model_validate(raw)
    except ValidationError as error:
        raise SlipwayError(
            f"{answer.request.method} {answer.request.url}: expected a {record.__name__}, found "
            f"{answer.text[:200]!r}: {error}"
        ) from error


def _refusal(answer: httpx.Response) -> SlipwayError:
    where = f"{answer.request.method} {answer.request.url}"
    if answer.status_code == httpx.codes.UNAUTHORIZED:
        return UserError(
            f"{where}: the agent refused this token; "
            "check SLIPWAY_AGENT_TOKEN_FILE against the file that the agent was started with"
        )
    reason = reason_of(answer)
    if answer.status_code in (httpx.codes.FORBIDDEN, httpx.codes.UNPROCESSABLE_ENTITY):
        return UserError(f"{where}: the agent refused this: {reason}")
    return error_of(answer, f"{where}: status {answer.status_code}: {reason}")
