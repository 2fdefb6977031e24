"""How many rows a shadow may answer otherwise than stable."""

from components.deploy.deployment import Deployment
from contract.errors import SlipwayError
from contract.layout import PACKAGE_MANIFEST
from contract.records.package import PackageManifest

_UNKNOWN = 0.5  # without accuracies: only what answers mostly otherwise is refused
_MOST = 0.95  # beyond that there is no evidence to be had
_LEAST = 0.01  # two models without an error on few test rows are not sure to agree on others


def disagreement_limit(deployment: Deployment, champion: int) -> float | None:
    """Return the share of rows that may differ; None where the agent compares no answers.

    Two models that are right on a share a and b of the rows differ on at most (1 - a) + (1 - b) of
    them: where they differ, one is wrong. The shares are the lower ends of what bless measured.
    """
    config = deployment.config
    if config.serve.prediction_log_ratio == 0 or not _compares(deployment, champion):
        return None
    if config.deploy.max_disagreement_ratio is not None:
        return config.deploy.max_disagreement_ratio
    heads = [name for name, head in config.heads.items() if head.task != "regression"]
    if len(heads) < len(config.heads) or deployment.bless is None:
        return _UNKNOWN
    measured = (deployment.bless.metrics, deployment.bless.champion_metrics)
    right = [metrics.get(head, {}).get("accuracy") for metrics in measured for head in heads]
    wrong = [1.0 - accuracy.low for accuracy in right if accuracy is not None]
    if len(wrong) < len(right):
        return _UNKNOWN
    return min(max(sum(wrong), _LEAST), _MOST)


def _compares(deployment: Deployment, champion: int) -> bool:
    """Tell whether the agent can compare a head: by class, or by what stable's error is."""
    if any(head.task != "regression" for head in deployment.config.heads.values()):
        return True
    try:
        folder = deployment.layout.version(champion)
        return bool(PackageManifest.read(folder / PACKAGE_MANIFEST).own_errors)
    except SlipwayError:
        return False
