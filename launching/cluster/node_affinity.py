"""Which nodes a pod's required node affinity leaves, by the rules of Kubernetes. Pure.

Source: `NodeSelector` of Kubernetes' core/v1: terms are alternatives, the expressions of a term
hold together, and a term without any matches nothing.
"""

from collections.abc import Callable, Mapping, Sequence

from contract.pod_templates import Manifest


def required_terms(spec: Manifest) -> list[Manifest] | None:
    """Return the alternatives of a pod's required node affinity; None if it requires none."""
    affinity = (spec.get("affinity") or {}).get("nodeAffinity") or {}
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution")
    return None if required is None else list(required.get("nodeSelectorTerms") or ())


def is_wanted(node: Manifest, spec: Manifest) -> bool:
    """Tell whether a pod's required node affinity allows a node."""
    terms = required_terms(spec)
    return terms is None or any(_matches(node, term) for term in terms)


def in_words(spec: Manifest) -> str:
    """Write a required affinity in one line, as `kubectl` writes selectors."""
    terms = required_terms(spec) or []
    return " or ".join(
        " and ".join(_expression_in_words(one) for one in _expressions(term)) or "nothing"
        for term in terms
    )


def _matches(node: Manifest, term: Manifest) -> bool:
    labels = node["metadata"].get("labels") or {}
    fields = {"metadata.name": node["metadata"].get("name", "")}
    by_label, by_field = term.get("matchExpressions") or (), term.get("matchFields") or ()
    return (
        bool(by_label or by_field)
        and all(_holds(labels, one) for one in by_label)
        and all(_holds(fields, one) for one in by_field)
    )


def _holds(found: Mapping[str, str], expression: Manifest) -> bool:
    key = expression.get("key", "")
    values = [str(value) for value in expression.get("values") or ()]
    is_there, value = key in found, found.get(key, "")
    rules: dict[str, Callable[[], bool]] = {
        "In": lambda: is_there and value in values,
        "NotIn": lambda: value not in values or not is_there,  # codespell:ignore
        "Exists": lambda: is_there,
        "DoesNotExist": lambda: not is_there,
        "Gt": lambda: is_there and _is_ordered(values, value),
        "Lt": lambda: is_there and _is_ordered([value], "".join(values[:1])),
    }
    rule = rules.get(expression.get("operator", ""))
    return rule is None or rule()  # the API server refuses what is not an expression


def _is_ordered(lower: Sequence[str], higher: str) -> bool:
    """Tell whether one whole number is below another; other text is below nothing."""
    try:
        return int(lower[0]) < int(higher)
    except (ValueError, IndexError):
        return False


def _expressions(term: Manifest) -> list[Manifest]:
    return [*(term.get("matchExpressions") or ()), *(term.get("matchFields") or ())]


def _expression_in_words(expression: Manifest) -> str:
    values = ", ".join(str(value) for value in expression.get("values") or ())
    given = f" ({values})" if values else ""
    return f"{expression.get('key', '')} {expression.get('operator', '')}{given}"
