"""Counts from a Prometheus-compatible server, by queries that the asker names."""

from typing import Any

import httpx

from contract.clients.http import open_client, said
from contract.errors import ServiceUnavailableError, UserError

_ANSWER_SECONDS = 5.0
Sample = tuple[dict[str, str], float]


class Prometheus:
    """Asks one server; which one is decided by who runs the judge, never by who asks it."""

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")
        self._http = open_client(self._url, _ANSWER_SECONDS)

    def total(self, query: str) -> int:
        """Return the sum of an instant vector, or a scalar; 0 for what nobody has counted yet."""
        return round(sum(value for _, value in self._samples(query)))

    def by_bound(self, query: str) -> dict[str, int]:
        """Return a histogram's cumulative counts by their label `le`.

        Raises:
            UserError: If a series has no such label.
        """
        counts: dict[str, int] = {}
        for labels, value in self._samples(query):
            if "le" not in labels:
                raise UserError(f"{query}: expected series with the label 'le', found {labels}")
            counts[labels["le"]] = counts.get(labels["le"], 0) + round(value)
        return counts

    def _samples(self, query: str) -> list[Sample]:
        answer = self._answer(query)
        data = answer.get("data", {})
        if answer.get("status") != "success":
            raise UserError(f"Prometheus refused {query!r}: {answer.get('error', answer)}")
        if data.get("resultType") == "scalar":
            return [({}, float(data["result"][1]))]
        if data.get("resultType") != "vector":
            found = data.get("resultType")
            raise UserError(f"{query}: expected an instant vector or a scalar, found {found}")
        return [(one["metric"], float(one["value"][1])) for one in data["result"]]

    def _answer(self, query: str) -> dict[str, Any]:
        try:
            answer = self._http.get("/api/v1/query", params={"query": query})
            found: dict[str, Any] = answer.json()
        except (httpx.HTTPError, ValueError) as error:
            raise ServiceUnavailableError(
                f"Prometheus at {self._url}: no answer: {said(error)}"
            ) from error
        return found
