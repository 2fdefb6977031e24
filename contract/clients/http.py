"""HTTP to services: how a client is opened, and what an answer that refuses means.

The agent's probes and the load test are not made with it: the first run several times a second for
as long as the agent lives, the second measures. docs/figures.md has what a call costs.
"""

import logging
import ssl
from functools import cache
from http import HTTPStatus
from pathlib import Path

import httpx

from contract.addresses import is_of_this_machine
from contract.errors import (
    ConfigError,
    ConflictError,
    NotFoundError,
    ServiceUnavailableError,
    SlipwayError,
    UserError,
)
from contract.tokens import bearer

Client = httpx.Client  # for annotations: the linter forbids the other, so that none is made

ANSWER_SECONDS = 30.0
_CONNECT_SECONDS = 5.0
_SHOWN_CHARACTERS = 300

logging.getLogger("httpx").setLevel(logging.WARNING)  # it logs every request as INFO


def open_client(
    url: str, timeout_seconds: float = ANSWER_SECONDS, token: str = "", trusted: Path | None = None
) -> httpx.Client:
    """Return a client of one service, to be used as a context manager.

    Calls of this machine's own services never go through a proxy; all others go through the one
    that the environment names (`HTTPS_PROXY`, `NO_PROXY` and so on).

    Args:
        url: The service's address; paths are relative to it.
        timeout_seconds: For each of connecting (at most 5 s), sending and the answer's parts.
        token: Sent as bearer token.
        trusted: A PEM file with the only certificates that are trusted.

    Raises:
        ConfigError: If the environment names a proxy that cannot be used.
    """
    try:
        return httpx.Client(
            base_url=url,
            headers=bearer(token) if token else None,
            timeout=httpx.Timeout(timeout_seconds, connect=min(timeout_seconds, _CONNECT_SECONDS)),
            trust_env=not is_of_this_machine(url),
            verify=_trust(trusted),
        )
    except (ImportError, ValueError) as error:
        raise ConfigError(
            [f"{url}: the proxy that HTTP_PROXY, HTTPS_PROXY or ALL_PROXY names: {error}"]
        ) from error


def no_answer(service: str, error: httpx.TransportError, advice: str) -> ServiceUnavailableError:
    """Return the error for a service that cannot be reached, with the next step."""
    return ServiceUnavailableError(f"{service}: no answer: {said(error)}; {advice}")


def said(error: Exception) -> str:
    """Return the words of a failed call; some timeouts have none but their name."""
    return str(error) or type(error).__name__


def reason_of(answer: httpx.Response) -> str:
    """Return what a service says in an answer that reports an error.

    That is the `error` of our own services, the `detail` of FastAPI's, or the body's beginning.
    """
    try:
        body = answer.json()
        return str(body["error"] if "error" in body else body["detail"])
    except (ValueError, KeyError, TypeError):
        return answer.text[:_SHOWN_CHARACTERS] or "no reason given"


def error_of(answer: httpx.Response, message: str) -> SlipwayError:
    """Return our error for the status of an answer that reports an error."""
    if answer.status_code == HTTPStatus.NOT_FOUND:
        return NotFoundError(message)
    if answer.status_code == HTTPStatus.CONFLICT:
        return ConflictError(message)
    return UserError(message) if answer.is_client_error else ServiceUnavailableError(message)


@cache
def _trust(trusted: Path | None) -> ssl.SSLContext:
    """Return the certificates that are trusted; reading them takes 20 ms of CPU, once a process."""
    return ssl.create_default_context(cafile=trusted) if trusted else httpx.create_ssl_context()
