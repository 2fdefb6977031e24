"""The split of the traffic between arms, and the copies for a shadow, of whatever protocol."""

from contract.records.prediction import ARM_HEADER
from contract.records.traffic import TrafficPlan
from serving.traffic.envoy.documents import Document, Use, cluster_name


def weighted(plan: TrafficPlan, use: Use) -> Document:
    """Return the arms with their weights, stable first.

    With a hash policy Envoy takes the first cluster whose weight, added to those before it, exceeds
    the header's hash modulo 100. So who is once on the last arm stays there while it grows. A
    request without the header is drawn by chance.
    """
    arms = [
        {
            "name": cluster_name(plan.pipeline, arm.version, use),
            "weight": arm.weight_percent,
            "request_headers_to_add": [_said_arm(arm.name)],
        }
        for arm in sorted(plan.arms, key=lambda arm: arm.name != "stable")
    ]
    if not plan.sticky_header:
        return {"weighted_clusters": {"clusters": arms}}
    return {
        "weighted_clusters": {"clusters": arms, "use_hash_policy": True},
        "hash_policy": [{"header": {"header_name": plan.sticky_header}}],
    }


def mirrored(plan: TrafficPlan, use: Use) -> Document:
    """Return the copies for the shadow, if the plan has one."""
    if plan.shadow is None or plan.shadow.percent == 0:
        return {}
    mirror = {
        "cluster": cluster_name(plan.pipeline, plan.shadow.version, use),
        "runtime_fraction": {
            "default_value": {"numerator": plan.shadow.percent, "denominator": "HUNDRED"}
        },
        "request_headers_mutations": [{"append": _said_arm("shadow")}],
    }
    return {"request_mirror_policies": [mirror]}


def _said_arm(arm: str) -> Document:
    """Tell the server, for its prediction log, as what it was asked; replaces a caller's word."""
    return {
        "header": {"key": ARM_HEADER, "value": arm},
        "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
    }
