"""Telling Envoys elsewhere what to do: they ask again and again, and are answered when it changed.

This is xDS over REST. An Envoy names itself by the address that its counters are read from, so
the agent knows every Envoy that asks, and no list of Envoys is needed.
"""

import logging
import time
from collections.abc import Callable, Sequence

from pydantic import BaseModel, field_validator

from contract.errors import ServiceUnavailableError
from serving.traffic.backend import Endpoint
from serving.traffic.envoy.admin import EnvoyAdmin
from serving.traffic.envoy.documents import TYPES, Document, Kind, discovery_response, version_of

log = logging.getLogger("slipway.agent")

AGENT_CLUSTER = "agent"
# An Envoy's question is held open until there is something new, but no longer than this.
HOLD_SECONDS = 2.0
_PAUSE_SECONDS = 0.1  # between an answer and the next question
_SILENT_SECONDS = 3 * HOLD_SECONDS


class Node(BaseModel):
    """Who asks: `HOST:PORT`, where its counters are read."""

    id: str

    @property
    def endpoint(self) -> Endpoint:
        """The same, taken apart."""
        host, _, port = self.id.rpartition(":")
        return Endpoint(host, int(port))

    @field_validator("id")
    @classmethod
    def _is_address(cls, value: str) -> str:
        host, _, port = value.rpartition(":")
        if not host or not port.isdecimal():
            raise ValueError(f"expected HOST:PORT, found '{value}'")
        return value


class Question(BaseModel):
    """A DiscoveryRequest, as much of it as matters."""

    node: Node
    version_info: str = ""


class DiscoveryChannel:
    """A Channel to every Envoy that asks. Questions and answers may come in different threads."""

    def __init__(self, is_gone: Callable[[str], bool]) -> None:
        """Forget an Envoy that asks no more once `is_gone(its address)` agrees."""
        self._is_gone = is_gone
        self.on_news: Callable[[], None] = lambda: None  # called in the thread that publishes
        self._published: dict[Kind, tuple[str, Sequence[Document]]] = {}
        self._asked: dict[Endpoint, float] = {}

    def source(self, kind: Kind) -> Document:
        """See Channel."""
        del kind
        return discovery_source()

    def current(self, kind: Kind) -> Sequence[Document]:
        """See Channel."""
        _, resources = self._published.get(kind, ("", ()))
        return resources

    def publish(self, kind: Kind, resources: Sequence[Document]) -> str:
        """See Channel."""
        version = version_of(resources)
        self._published[kind] = (version, resources)
        self.on_news()
        return version

    def instances(self) -> Sequence[EnvoyAdmin]:
        """See Channel."""
        now = time.monotonic()
        for endpoint, asked in list(self._asked.items()):
            if now - asked > _SILENT_SECONDS and self._is_gone(endpoint.host):
                log.info("Envoy at %s no longer asks for its configuration", endpoint.host)
                self._asked.pop(endpoint, None)
        if not self._asked:
            raise ServiceUnavailableError(
                "no Envoy has asked for its configuration yet; see the log of Envoy's pods"
            )
        return [EnvoyAdmin(endpoint) for endpoint in list(self._asked)]

    def answer(self, kind: Kind, question: Question) -> str | None:
        """Return the DiscoveryResponse for an Envoy; None while it has the newest already."""
        asking = question.node.endpoint
        if asking not in self._asked:
            log.info("Envoy at %s asks for its configuration", asking.host)
        self._asked[asking] = time.monotonic()
        version, resources = self._published.get(kind, ("", ()))
        if version in ("", question.version_info):
            return None
        return discovery_response(kind, resources)


def discovery_source() -> Document:
    """Return the config source by which an Envoy asks its cluster `agent`."""
    return {
        "resource_api_version": "V3",
        "api_config_source": {
            "api_type": "REST",
            "transport_api_version": "V3",
            "cluster_names": [AGENT_CLUSTER],
            "refresh_delay": f"{_PAUSE_SECONDS}s",
            "request_timeout": f"{5 * HOLD_SECONDS}s",
        },
    }


def kind_of(name: str) -> Kind | None:
    """Return the kind of documents that a discovery path names, if there is such a kind."""
    return next((kind for kind in TYPES if kind == name), None)
