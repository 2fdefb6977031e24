"""What a refusal or a missing answer of a cluster's API means: its errors mapped to ours."""

import contextlib
import json
import re
from collections.abc import Iterator
from typing import Any

import aiohttp
from kubernetes_asyncio.client.exceptions import ApiException

from contract.errors import (
    ConfigError,
    ConflictError,
    NotFoundError,
    ServiceUnavailableError,
    SlipwayError,
)
from contract.schema.cluster import ClusterConfig

_PRIORITY_CLASS = re.compile(r"no PriorityClass with name (\S+) was found")
_ACCOUNT = re.compile(r'User "system:serviceaccount:([^:"]+):([^"]+)"')
_NAMESPACE = re.compile(r'in the namespace "([^"]+)"')
_RIGHT = re.compile(r'cannot (\S+) resource "([^"]+)" in API group "([^"]*)"')
# What ships with the role of each account.
_FOLDERS = {
    "slipway-launcher": "docker/kubernetes/base",
    "slipway-agent": "docker/kubernetes/serving",
}


class QuotaError(SlipwayError):
    """The namespace's quota has no room now; others may leave some."""


class ForbiddenError(ConfigError):
    """The account lacks a right."""


@contextlib.contextmanager
def our_errors(
    settings: ClusterConfig,
    call: str,
    refusal: type[Any] = ApiException,
    silence: tuple[type[Exception], ...] = (TimeoutError, aiohttp.ClientError, OSError),
) -> Iterator[None]:
    """Turn the errors of calls to a cluster into ours.

    Args:
        call: What is asked for, for messages.
        refusal: How the client says that the API server refuses; has `status`, `body`, `reason`.
        silence: How it says that there is no answer.
    """
    where = f"cluster '{settings.context or 'in-cluster'}', namespace '{settings.namespace}'"
    try:
        yield
    except refusal as error:
        said = str(error.body or error.reason)
        raise error_of(error.status or 0, said, where, call) from error
    except silence as error:
        said = str(error) or type(error).__name__
        raise ServiceUnavailableError(f"{where}: no answer to {call}: {said}") from error


def error_of(status: int, body: str, where: str, call: str) -> SlipwayError:
    """Return our error for an HTTP status of the API; its message says what to do."""
    reason = _message(body)
    said = f"{where}: {call}: {reason}"
    if status == 401:
        return ConfigError(
            [
                f"{where}: access denied (401): the token or certificate of the context "
                "is wrong or has expired; log in again and renew the kubeconfig"
            ]
        )
    if status == 403 and "exceeded quota" in reason:
        return QuotaError(said)
    if status == 403 and "is forbidden: unable to create new content" not in reason:
        return _forbidden(said, reason)
    if status == 404:
        return NotFoundError(said)
    if status == 409:
        return ConflictError(said)
    if status in (400, 413, 415, 422):
        return ConfigError([f"{said}. See the runtime file's 'pod' section and its template"])
    return ServiceUnavailableError(f"{said} ({status})")


def _forbidden(said: str, reason: str) -> ConfigError:
    """Return the error of a 403: a missing right, or an object that an admission rule refuses."""
    if "is forbidden: " in reason and " cannot " not in reason:
        missing = _PRIORITY_CLASS.search(reason)
        advice = (
            f"create PriorityClass '{missing[1]}', or name another one in the template"
            if missing
            else "a rule of the cluster refuses it, no right is missing: see the runtime file's "
            "'pod' section and its template"
        )
        return ConfigError([f"{said}. {advice[0].upper()}{advice[1:]}"])
    asking, asked = _ACCOUNT.search(reason), _NAMESPACE.search(reason)
    if asking and asked and asking[1] != asked[1]:
        return ForbiddenError(
            [
                f"{said}. The service account is of namespace '{asking[1]}': expected that in the "
                f"runtime file instead of '{asked[1]}', or its rights (docker/kubernetes/) there"
            ]
        )
    return ForbiddenError([f"{said}. {_what_is_missing(reason)}"])


def _what_is_missing(reason: str) -> str:
    """Name the right that a refusal speaks of, and the role that holds it."""
    advice = "Give the service account the verbs of"
    asking, asked, right = (p.search(reason) for p in (_ACCOUNT, _NAMESPACE, _RIGHT))
    if right is None:
        return f"{advice} docker/kubernetes/"
    verb, resource, group = right.groups()
    name = f"{resource}.{group}" if group else resource
    where = f"namespace '{asked[1]}'" if asked else "the whole cluster"
    role = asking[2] if asking and asking[2] in _FOLDERS else "slipway-launcher"
    missing = f"The right to {verb} {name} in {where} is missing"
    return f"{missing}. {advice} {_FOLDERS[role]}, Role '{role}'"


def _message(text: str) -> str:
    with contextlib.suppress(ValueError):
        return str(json.loads(text).get("message", text))
    return text
