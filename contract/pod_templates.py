"""Partial Kubernetes objects, and how one is laid over another. Pure."""

from typing import Any

Manifest = dict[str, Any]

CONTAINER = "main"


def merged(under: Manifest, over: Manifest) -> Manifest:
    """Return both: `over` wins; lists of named things are joined by name (mounts by their path),
    other lists one after the other."""
    result = dict(under)
    for key, value in over.items():
        old = under.get(key)
        if isinstance(old, dict) and isinstance(value, dict):
            result[key] = merged(old, value)
        elif isinstance(old, list) and isinstance(value, list):
            result[key] = _joined(old, value)
        else:
            result[key] = value
    return result


def _joined(under: list[Any], over: list[Any]) -> list[Any]:
    items = [*under, *over]
    is_of_things = bool(items) and all(isinstance(item, dict) for item in items)
    # a volume may be mounted at several paths
    known = (key for key in ("mountPath", "name") if all(key in item for item in items))
    if not is_of_things or (key := next(known, None)) is None:
        return items
    by_key = {item[key]: item for item in under}
    for item in over:
        by_key[item[key]] = merged(by_key.get(item[key], {}), item)
    return list(by_key.values())


def with_named_container(template: Manifest) -> Manifest:
    """Return a template whose first container has a name: without one it is ours."""
    containers = template.get("spec", {}).get("containers")
    if not containers or "name" in containers[0]:
        return template
    named = [{"name": CONTAINER, **containers[0]}, *containers[1:]]
    return {**template, "spec": {**template["spec"], "containers": named}}
