"""The best version that ever was champion and is kept: small losses must not add up unseen."""

from components.quality.metrics import is_lower_better
from components.runs.retention import stored_plan
from contract.errors import SlipwayError
from contract.layout import PipelineLayout
from contract.records.package import PackageManifest
from contract.records.traffic import TrafficPlan
from contract.schema.pipeline import PipelineConfig


def recorded_metrics(manifest: PackageManifest, config: PipelineConfig) -> dict[str, float]:
    """Return what was measured of a version's blessing head on the test split of its own run."""
    prefix = "" if len(manifest.heads) == 1 else f"{config.blessing_head}/"
    return {
        name.removeprefix(prefix): value
        for name, value in manifest.metrics.items()
        if name.startswith(prefix)
    }


def best_before(
    layout: PipelineLayout, champion: PackageManifest, config: PipelineConfig
) -> PackageManifest | None:
    """Return the kept champion with the best recorded figure, if it is better than this one's.

    Each champion was compared with the one before it. Small losses within the margin add up along
    that chain; against the best of them they cannot. Versions that were rolled back do not count.
    """
    metric = config.bless.metric
    sign = -1.0 if is_lower_better(metric) else 1.0
    known = _champions(layout, champion)
    figures = {
        manifest.version: sign * recorded[metric]
        for manifest in known.values()
        if metric in (recorded := recorded_metrics(manifest, config))
    }
    best = max(figures, key=lambda version: figures[version], default=champion.version)
    own = figures.get(champion.version)
    return None if own is None or figures[best] <= own else known[best]


def best_kept(layout: PipelineLayout, plan: TrafficPlan, config: PipelineConfig) -> set[int]:
    """Return the version that retention must not remove, because `bless` compares with it."""
    if plan.champion is None:
        return set()
    try:
        champion = PackageManifest.read(layout.package_manifest(plan.champion))
    except SlipwayError:
        return set()
    best = best_before(layout, champion, config)
    return set() if best is None else {best.version}


def _champions(layout: PipelineLayout, champion: PackageManifest) -> dict[int, PackageManifest]:
    """Return the kept versions that are or were champion: by the plan's history, and by the chain.

    The chain of what each was compared with also knows those before plans had a history, up to the
    first that is no longer kept.
    """
    plan, found = stored_plan(layout), {champion.version: champion}
    bad = {entry.version for entry in plan.bad} - {champion.version}
    for version in {change.version for change in plan.champions} - bad - set(found):
        _add(found, layout, version)
    before = champion.compared_with_version
    while before is not None and before not in bad:
        if before not in found and not _add(found, layout, before):
            break
        following = found[before].compared_with_version
        before = following if following is not None and following < before else None
    return found


def _add(found: dict[int, PackageManifest], layout: PipelineLayout, version: int) -> bool:
    try:
        found[version] = PackageManifest.read(layout.package_manifest(version))
    except SlipwayError:
        return False
    return True
