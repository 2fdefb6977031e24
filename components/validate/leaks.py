"""Signs that the rows which judge a model tell it what it should find out.

Three are looked for: rows of eval or test that are also in an earlier split, groups with rows in
several splits, and a feature that alone predicts a label too well.
"""

from collections.abc import Iterator, Mapping

from components.validate.anomalies import Comparison
from contract.records.data import Anomaly, IngestRecord


def row_anomalies(comparison: Comparison, ingested: IngestRecord) -> Iterator[Anomaly]:
    """Yield splits that have too many rows of earlier ones, and groups in several splits."""
    limit = comparison.settings.max_repeated_ratio
    for split, count in comparison.scan.repeated_rows.items():
        rows = ingested.examples[split]
        ratio = count / rows if rows else 0.0
        if ratio > limit:
            message = (
                f"{split}: {count:,} of {rows:,} rows ({ratio:.1%}) have the features of a row "
                f"that an earlier split has, {limit:.1%} may; remove repeated rows, or split by a "
                "hash of all features (ingest.split)"
            )
            yield comparison.anomaly(split, "repeated_rows", message, ratio, limit)
    if ingested.parted_groups:
        message = (
            f"{ingested.parted_groups:,} of {ingested.groups:,} groups have rows in several "
            "splits; ingest.split.by: hash keeps each in one"
        )
        ratio = ingested.parted_groups / ingested.groups
        yield comparison.anomaly("ingest.split.group", "parted_groups", message, ratio, 0.0)


def feature_anomalies(
    comparison: Comparison, skills: Mapping[str, Mapping[str, float]]
) -> Iterator[Anomaly]:
    """Yield features that alone predict a label too well. `skills` are by head, then feature."""
    limit = comparison.settings.max_single_skill
    for head, by_feature in skills.items():
        for name, skill in by_feature.items():
            if skill > limit:
                message = (
                    f"{name}: alone it predicts {head} with a skill of {skill:.3f} on the eval "
                    f"split (1: without error, 0: as a constant), {limit:g} may be; is it known "
                    "when the model is asked?"
                )
                yield comparison.anomaly(name, "leaking_feature", message, skill, limit)
