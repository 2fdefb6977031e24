"""The rows of the label demo: 150 that are labelled, a test set, and a stream that is not."""

import csv
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from contract.pipelines import find_pipeline

NAME = "asked_digits"
BASE_ROWS, TEST_ROWS = 150, 500
CLASSES = tuple(str(digit) for digit in range(10))
# One pixel up, down, left, right or not at all: the world has more digits than the 1,797.
_SHIFTS = tuple((down, right) for down in (-1, 0, 1) for right in (-1, 0, 1))

Rows = tuple[np.ndarray, np.ndarray]  # images [rows, 8, 8], labels [rows]


@dataclass(frozen=True)
class DigitRows:
    """All rows; no image is in two of them."""

    base: Rows
    test: Rows
    stream: Rows
    _known: dict[bytes, str] = field(default_factory=dict)

    @classmethod
    def load(cls, seed: int = 20, *, is_shifted: bool = True) -> "DigitRows":
        """Return the digits that scikit-learn ships, in an order of chance.

        Shifted, the first model knows little, and what labels bring is seen after one loop.
        """
        from sklearn.datasets import load_digits

        digits, chance = load_digits(), np.random.default_rng(seed)
        order = chance.permutation(len(digits.images))
        parts = np.split(order, [BASE_ROWS, BASE_ROWS + TEST_ROWS])
        if is_shifted:
            copies = (1, 1, len(_SHIFTS))
            pairs = zip(parts, copies, strict=True)
            base, test, stream = (_shifted(digits, part, chance, n) for part, n in pairs)
        else:
            base, test, stream = ((digits.images[part], digits.target[part]) for part in parts)
        known = {_key(image): str(label) for image, label in zip(*stream, strict=True)}
        return cls(base, test, stream, known)

    def truth(self, inputs: Mapping[str, Any]) -> str:
        """Return the right label of a row of the stream."""
        return self._known[_key(inputs["image"])]

    def requests(self) -> Iterator[dict[str, Any]]:
        """Yield the rows of the stream as callers send them, without an end."""
        for image in cycle(self.stream[0]):
            yield {"image": image.tolist()}


def write_pipeline(folder: Path, rows: DigitRows) -> None:
    """Write the pipeline `digits` with 150 rows to learn from, and a label loop."""
    shutil.copytree(find_pipeline("digits"), folder / NAME)
    path = folder / NAME / "pipeline.yaml"
    config = yaml.safe_load(path.read_text(encoding="utf-8"))
    for name, part in (("base", rows.base), ("test", rows.test)):
        _write_csv(folder / NAME / f"{name}.csv", part)
    config |= {
        "name": NAME,
        "description": "Which digit is this? 150 images at first, and what people have labelled.",
        "ingest": {
            "source": {"kind": "csv", "files": ["base.csv"]},
            "test_source": {"kind": "csv", "files": ["test.csv"]},
            "split": {"train": 0.85, "eval": 0.15, "test": 0.0},
        },
        "bless": {"metric": "accuracy", "thresholds": {"accuracy": 0.2}, "margin": 0.05},
        "serve": {"prediction_log_inputs_ratio": 1.0},
        "labels": {"budget": 60, "people": 5, "min_answers": 5, "min_labels": 25},
        "optimize": {"passes": [], "engines": {"candidates": ["tensorflow"]}},
        "package": {"loadtest": {"seconds": 1.0}},
        # In production a rung lasts a minute at least, more than one is climbed, fewer errors are
        # caught, and latencies count: here the machine is busy with all that the demo does.
        "deploy": {
            **{"shadow_requests": 0, "ladder_percent": [100], "hold_back_percent": 50},
            **{"min_seconds_per_step": 3.0, "min_requests_per_step": 20, "alpha": 0.05},
            **{"refused_error_ratio": 0.2, "client_error_margin_ratio": 0.4},
            **{"max_latency_ratio": 100.0, "min_latency_difference_ms": 10_000.0},
        },
    }
    path.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")


def _shifted(digits: Any, places: np.ndarray, chance: np.random.Generator, copies: int) -> Rows:
    """Return images with their labels, each shifted in some ways, in an order of chance."""
    images, labels = [], []
    for place in places:
        ways = chance.choice(len(_SHIFTS), copies, replace=False)
        images += [np.roll(digits.images[place], _SHIFTS[way], axis=(0, 1)) for way in ways]
        labels += [digits.target[place]] * copies
    order = chance.permutation(len(labels))
    return np.array(images)[order], np.array(labels)[order]


def _write_csv(path: Path, rows: Rows) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["image", "label"])
        for image, label in zip(*rows, strict=True):
            writer.writerow([" ".join(f"{pixel:g}" for pixel in image.ravel()), label])


def _key(image: Any) -> bytes:
    return np.asarray(image, np.float32).tobytes()
