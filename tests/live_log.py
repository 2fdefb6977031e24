"""A prediction log of digits that tests write as model servers do: a file for each flush."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from contract.layout import PipelineLayout
from contract.loader import validate
from contract.prediction_log.columns import log_schema
from contract.prediction_log.files import LogFile, hour_of
from contract.prediction_log.writing import write_rows
from contract.records.package import InputSpec, PackageManifest, Provenance
from contract.schema.pipeline import PipelineConfig

CLASSES = tuple("0123456789")
CONFIG: PipelineConfig = validate(
    PipelineConfig,
    {
        "name": "digits",
        "features": {
            "image": {"dtype": "float32", "shape": [8, 8]},
            "note": {"dtype": "string"},
        },
        "heads": {"digit": {"task": "multiclass_classification", "classes": [*CLASSES]}},
        "ingest": {"source": {"kind": "csv", "files": ["digits.csv"]}},
    },
    "digits",
)


@dataclass
class LiveLog:
    """The log of one version, of one server process."""

    layout: PipelineLayout
    version: int = 1
    arm: str = "stable"
    written: int = 0
    inputs: dict[str, InputSpec] = field(
        default_factory=lambda: {n: InputSpec.of(f) for n, f in CONFIG.features.items()}
    )

    def package(self, classes: Sequence[str] = CLASSES) -> None:
        """Write the manifest that says what the classes are."""
        heads = {
            name: head.model_copy(update={"classes": tuple(classes)})
            for name, head in CONFIG.heads.items()
        }
        PackageManifest(
            pipeline=self.layout.pipeline,
            version=self.version,
            created_at=datetime.now(UTC),
            digest="sha256:0",
            inputs=self.inputs,
            heads=heads,
            serve=CONFIG.serve,
            provenance=Provenance(run_id="r", git_commit="", data_digests={}, versions={}),
        ).write(self.layout.package_manifest(self.version))

    def write(self, *rows: dict[str, Any]) -> None:
        """Write rows; each may have `id`, `label`, `score`, `image`, `note` and `status`."""
        now = datetime.now(UTC)
        table = pa.Table.from_pylist([self._row(row, now) for row in rows], self._schema)
        end = self.written + len(rows)
        name = f"h-{self.version}-a"
        folder = self.layout.predictions(self.version)
        write_rows(LogFile(hour_of(now), name, self.written, end, folder), table)
        self.written = end

    @property
    def _schema(self) -> pa.Schema:
        return log_schema(CONFIG.heads, self.inputs)

    def _row(self, row: dict[str, Any], now: datetime) -> dict[str, Any]:
        status = row.get("status", 200)
        found = {
            **{"time": now, "request_id": row["id"], "row": 0, "version": self.version},
            **{"arm": self.arm, "signature": "predict", "status": status},
            "latency_seconds": 0.0125,
        }
        if status == 200:
            score = row.get("score", 0.5)
            found |= {"predicted:digit": row.get("label", 3), "confidence:digit": score}
            found["scores:digit"] = [score] * len(CLASSES)
        if "image" in row:
            found["input:image"] = row["image"]
        if "note" in row:
            found["input:note"] = row["note"].encode()
        return found
