"""How requests of Kubernetes' API read, for a stand-in that answers them."""

from typing import Any

from aiohttp import web


def verb_of(request: web.Request, name: str) -> str:
    if request.query.get("watch"):
        return "watch"
    verbs = {"POST": "create", "PATCH": "patch", "DELETE": "delete"}
    return verbs.get(request.method, "get" if name else "list")


def place_of(path: str) -> tuple[str, str, str]:
    """Return the kind (`pods`, `kubeflow.org/v1/tfjobs`), the name and the part of a path."""
    api, *parts = path.strip("/").split("/")
    group, rest = ([], parts[1:]) if api == "api" else (parts[:2], parts[2:])
    if rest[:1] == ["namespaces"]:
        rest = rest[2:]
    rest += [""] * (3 - len(rest))
    return "/".join([*group, rest[0]]), rest[1], rest[2]


def selector(text: str) -> dict[str, str]:
    return dict(part.split("=", 1) for part in text.split(",") if part)


def has(body: Any, labels: dict[str, str]) -> bool:
    own = body["metadata"].get("labels") or {}
    return all(own.get(key) == value for key, value in labels.items())


def merged(under: Any, over: Any) -> Any:
    if not isinstance(over, dict) or not isinstance(under, dict):
        return over
    both = {**under, **{key: merged(under.get(key), value) for key, value in over.items()}}
    return {key: value for key, value in both.items() if value is not None}


def refusal(code: int, message: str) -> web.Response:
    return web.json_response({"kind": "Status", "code": code, "message": message}, status=code)
