"""What askers send, as questions to the judge: counts as they are, or queries that say where.

Everything is flat, for Flagger's metadata are texts by name: `canary_requests`, `stable_errors` and
so on. A number is a count, any other text is a query for Prometheus.
"""

import json
import math
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from components.deploy.advice.adviser import Adviser
from components.deploy.advice.prometheus import Prometheus
from contract.errors import UserError
from contract.records.advice import Advice, Question
from contract.records.traffic import ArmObservation
from contract.strict_json import once

_UNITS = {"milliseconds": 1.0, "seconds": 1000.0}
_MOST_COUNT = 1 << 53  # above it, numbers of JSON are not exact
_MOST_CHARACTERS = 500
_NEEDED, _OPTIONAL = ("requests", "errors"), ("client_errors", "active")
_BUCKETS = "latency_buckets"
Given = Mapping[str, Any]


class Desk:
    """Takes questions as they come and has the judge answer them."""

    def __init__(
        self, adviser: Adviser, prometheus: Prometheus | None, now: Callable[[], datetime]
    ) -> None:
        self._adviser, self._prometheus, self._now = adviser, prometheus, now

    def ask(self, given: Given, is_raise: bool) -> Advice:
        """Return what the judge says; see Adviser.ask.

        Raises:
            UserError: If what is given is not a question.
            ServiceUnavailableError: If Prometheus does not answer.
        """
        return self._adviser.ask(self._question(given), is_raise)

    def begin(self, given: Given) -> None:
        """Let a rollout begin now, whatever was known of it."""
        self._adviser.begin(self._question(given))

    def _question(self, given: Given) -> Question:
        if not (rollout := given.get("rollout")):
            raise UserError("rollout: expected which rollout this is about, found nothing")
        return Question(
            rollout=_text("rollout", rollout),
            revision=_text("revision", given.get("revision", "")),
            step=_text("step", given.get("step", "")),
            canary=self._arm(given, "canary", 2),
            stable=self._arm(given, "stable", 1),
            asked_at=self._now(),
        )

    def _arm(self, given: Given, arm: str, version: int) -> ArmObservation:
        names = [name for name in (*_NEEDED, *_OPTIONAL) if f"{arm}_{name}" in given]
        if missing := [name for name in (*_NEEDED, _BUCKETS) if f"{arm}_{name}" not in given]:
            wanted = ", ".join(f"{arm}_{name}" for name in missing)
            raise UserError(f"{wanted}: expected a count or a query; unmeasured is never a pass")
        counts = {name: self._count(f"{arm}_{name}", given[f"{arm}_{name}"]) for name in names}
        bounds, below = self._histogram(f"{arm}_{_BUCKETS}", given)
        return ArmObservation(
            version=version,
            is_ready=True,
            **counts,
            latency_bounds_ms=bounds[:-1],
            latency_counts=below[:-1],
            latency_total=below[-1],
        )

    def _count(self, name: str, value: Any) -> int:
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if is_number or (isinstance(value, str) and value.strip().isdecimal()):
            return _whole(name, value)
        return _whole(name, self._ask(name, value).total(value))

    def _histogram(self, name: str, given: Given) -> tuple[tuple[float, ...], tuple[int, ...]]:
        """Return rising bounds in milliseconds, the last one endless, and how many are below."""
        unit = given.get("latency_unit", "milliseconds")
        if not isinstance(unit, str) or unit not in _UNITS:
            raise UserError(f"latency_unit: expected {' or '.join(_UNITS)}, found {unit!r:.100}")
        buckets = _buckets(given[name])
        if buckets is None:
            buckets = self._ask(name, given[name]).by_bound(given[name])
        found = sorted(
            (_bound(name, le) * _UNITS[unit], _whole(name, n)) for le, n in buckets.items()
        )
        if not found:
            return (math.inf,), (0,)  # nothing was timed yet
        if not math.isinf(found[-1][0]):
            raise UserError(f"{name}: expected the bound '+Inf' among {', '.join(buckets):.500}")
        return tuple(bound for bound, _ in found), tuple(count for _, count in found)

    def _ask(self, name: str, value: Any) -> Prometheus:
        if not isinstance(value, str) or not value.strip():
            raise UserError(f"{name}: expected a count or a query, found {value!r:.100}")
        if self._prometheus is None:
            raise UserError(f"{name}: a query, but this judge was started without --prometheus")
        return self._prometheus


def _text(name: str, value: Any) -> str:
    text = str(value)
    try:
        text.encode()
    except UnicodeEncodeError as error:  # JSON may hold half a character
        raise UserError(f"{name}: expected text, found {text!r:.100}") from error
    if len(text) > _MOST_CHARACTERS:
        raise UserError(f"{name}: {len(text):,} characters, expected at most {_MOST_CHARACTERS}")
    return text


def _whole(name: str, value: Any) -> int:
    try:
        count = round(float(value))
    except (TypeError, ValueError, OverflowError):
        count = -1
    if not 0 <= count <= _MOST_COUNT:
        raise UserError(f"{name}: expected a count from 0 to 2^53, found {value!r:.100}")
    return count


def _bound(name: str, value: Any) -> float:
    try:
        bound = float(value)
    except ValueError:
        bound = math.nan
    if math.isnan(bound):
        raise UserError(f"{name}: expected counts by upper bound, found {value!r:.100}")
    return bound


def _buckets(value: Any) -> Mapping[str, Any] | None:
    """Return counts by bound that were sent, as an object or as its text; None for a query."""
    if isinstance(value, Mapping):
        return value
    if isinstance(value, str) and value.lstrip().startswith("{"):
        try:
            found = json.loads(value, object_pairs_hook=once)
        except (ValueError, RecursionError):
            return None  # a query may begin so, too
        return found if isinstance(found, dict) else None
    return None
