"""How many labels of random rows are worth as much as those of the label loop's choice.

Run as `python tests/benchmarks/bench_label_choice.py [--draws N]` (some 5 CPU-seconds each). The
rows are those of `slipway demo labels`, a network of 150 digits and 1,147 others that callers send,
each shifted by a pixel in nine ways (`shifted`), and the same without shifts (`digits`). Three
times 60 rows are asked about, chosen by margin among as many as the demo logs, and the network
learns those that are no audit. The peer learns labels of random rows, 1, 1.5, 2 and 3 times as
many. All labels are right: what people err in is measured by `bench_labels.py`. Each draw has
another split of the digits. No service runs: the choice is that of the loop, the network that of
the demo's report.
"""

import argparse
import warnings
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
from sklearn.exceptions import ConvergenceWarning
from support import emit

from cli.demo.digit_rows import DigitRows
from cli.demo.loop_report import network
from components.labels.choosing.candidates import Candidates
from components.labels.choosing.choice import Budget, Variety, choose
from components.labels.choosing.measures import margin
from components.labels.choosing.sketches import Sketches
from contract.loader import load_pipeline
from contract.pipelines import find_pipeline
from contract.prediction_log.columns import INPUT

LOOPS, BUDGET, LOGGED = 3, 60, 1_000
FACTORS = (1.0, 1.5, 2.0, 3.0)


class World:
    """One split of the digits, and a network that learns some of its rows."""

    def __init__(self, seed: int, is_shifted: bool) -> None:
        self.random = np.random.default_rng(seed)
        rows = DigitRows.load(seed, is_shifted=is_shifted)
        self.base, self.test, self.stream = rows.base, rows.test, rows.stream
        self._sketches = Sketches(load_pipeline(find_pipeline("digits")).features)

    def learned(self, places: np.ndarray, seed: int = 0) -> Any:
        """Return a network of the base rows and some of the stream."""
        images = np.concatenate([self.base[0], self.stream[0][places]])
        labels = np.concatenate([self.base[1], self.stream[1][places]])
        return network(seed).fit(pixels(images), labels)

    def accuracy(self, places: np.ndarray) -> float:
        """Return how often a network of these rows is right in the test rows."""
        return float(self.learned(places, 1).score(pixels(self.test[0]), self.test[1]))

    def by_loops(self) -> Iterator[np.ndarray]:
        """Yield the rows that are learned after each loop."""
        learned, order = np.array([], int), self.random.permutation(len(self.stream[1]))
        for number in range(LOOPS):
            logged = np.take(order, range(number * LOGGED, (number + 1) * LOGGED), mode="wrap")
            scores = self.learned(learned).predict_proba(pixels(self.stream[0][logged]))
            chosen = self._choose(logged, scores.astype(np.float32))
            learned = np.union1d(learned, chosen)
            yield learned

    def by_chance(self, count: int) -> np.ndarray:
        """Return random rows."""
        return self.random.choice(len(self.stream[1]), count, replace=False)

    def _choose(self, logged: np.ndarray, scores: np.ndarray) -> np.ndarray:
        images = [image.astype(np.float32).tolist() for image in self.stream[0][logged]]
        count = len(logged)
        candidates = Candidates(
            request_ids=pa.chunked_array([[str(place) for place in range(count)]]),
            rows=np.zeros(count, np.int32),
            versions=np.ones(count, np.int32),
            days=np.zeros(count, np.int32),
            scores=scores,
            sketches=self._sketches.of(pa.table({INPUT + "image": images})),
        )
        worth = margin(scores).astype(float)
        found = choose(candidates, worth, Budget(BUDGET), Variety(), self.random)
        return logged[found.places[~found.is_audit]]


def pixels(images: np.ndarray) -> np.ndarray:
    """Return images as the network takes them."""
    return images.reshape(-1, 64) / 16


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--draws", type=int, default=12)
    draws = parser.parse_args().draws
    warnings.simplefilter("ignore", ConvergenceWarning)  # the network ends with its iterations
    for name in ("digits", "shifted"):
        found = defaultdict[str, list[float]](list)
        for seed in range(draws):
            world = World(seed, name == "shifted")
            found["before"].append(world.accuracy(np.array([], int)))
            *_, learned = world.by_loops()
            found["labels"].append(len(learned))
            found["loops"].append(world.accuracy(learned))
            for factor in FACTORS:
                places = world.by_chance(round(factor * len(learned)))
                found[f"random {factor:g}"].append(world.accuracy(places))
        means = {key: float(np.mean(values)) for key, values in found.items()}
        spread = {f"{key} ±": float(np.std(v) / np.sqrt(draws)) for key, v in found.items()}
        ours, peer = means.pop("loops"), means["random 2"]
        emit(f"labels: accuracy by loops, {name}", ours, peer, None, "", **means, **spread)


if __name__ == "__main__":
    main()
