"""What the label demo shows: figures of its loops, and of what labels would have been without."""

import csv
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import repeat
from typing import Any

import numpy as np
from rich.table import Table

from cli.demo.digit_rows import CLASSES, NAME, DigitRows, Rows
from cli.labels.learning import settled
from cli.output import data
from cli.runs.outcome import read_result
from contract.layout import PipelineLayout, RunLayout
from contract.loader import state_folder
from contract.records.evaluation import BlessRecord
from contract.records.label_loop import LabelLoopRecord
from serving.labels.store.answering import answers
from serving.labels.store.database import Database, sqlite_url
from serving.labels.store.exchange import stored_questions
from serving.labels.store.questions import topic_id
from serving.labels.store.records import Answered, Question

_TWINS = 5  # models of each comparison, with other seeds
_ITERATIONS = 60
_FACTORS = (1.0, 1.5, 2.0, 3.0)  # how many random rows as there are labels of the loops


@dataclass(frozen=True)
class Looped:
    """A model, and the labels that were new to it."""

    accuracy: float
    version: int
    labels: int = 0
    seconds: float = 0.0  # from the last answer to the model in service
    outcome: str = "promoted"


@dataclass(frozen=True)
class Said:
    """What people were asked and have said."""

    answers: Sequence[Answered]
    questions: dict[tuple[str, str], Question]
    truth: dict[tuple[str, str], str]

    @classmethod
    def read(cls, rows: DigitRows) -> "Said":
        store = Database(sqlite_url(state_folder() / "labels.db"))
        number, _ = topic_id(store, NAME)
        questions = {(q.request_id, str(q.row)): q for q in stored_questions(store, number)}
        truth = {place: rows.truth(question.inputs) for place, question in questions.items()}
        return cls([*answers(store, number)], questions, truth)


def accuracy_of(run: RunLayout) -> float:
    """Return the accuracy on the test rows of the model that a run has blessed."""
    result = read_result(run, "bless")
    assert result is not None
    return result.detail_as(BlessRecord).metrics["digit"]["accuracy"].value


def show(done: Sequence[Looped], layout: PipelineLayout, rows: DigitRows) -> None:
    """Print all figures."""
    said = Said.read(rows)
    _show_loops(done, layout, rows)
    for line in (*_of_consensus(said), *_of_bias(said, layout, rows)):
        data.print(line)


def wrong_labels(said: Said) -> tuple[int, int, int]:
    """Return how many labels there are, and how many are wrong by consensus and by majority."""
    votes = defaultdict[tuple[str, str], Counter[str]](Counter)
    for one in said.answers:
        if one.label is not None:
            votes[one.request_id, str(one.row)][one.label] += 1
    found = {one.place: one.label for one in settled(said.answers, CLASSES).labels}
    by_consensus = sum(label != said.truth[place] for place, label in found.items())
    by_majority = sum(
        count.most_common(1)[0][0] != said.truth[place] for place, count in votes.items()
    )
    return len(found), by_consensus, by_majority


def _show_loops(done: Sequence[Looped], layout: PipelineLayout, rows: DigitRows) -> None:
    table = Table(title="Accuracy after each loop", title_justify="left", box=None, pad_edge=False)
    for column in ("Loop", "Labels", "Model in service", "Twin", "Twin, random rows", "Minutes"):
        table.add_column(column, justify="left" if column == "Loop" else "right")
    learned = _learned(layout)
    labels, last = 0, 0.0
    for number, one in enumerate(done):
        labels += one.labels
        own = (learned[0][:labels], learned[1][:labels])
        last = _twin(rows, repeat(own))
        twins = [f"{one:.1%}" for one in (last, _twin_by_chance(rows, labels))]
        minutes = f"{one.seconds / 60:.1f}" if number else ""
        name = f"{number} (version {one.version})"
        table.add_row(name, f"{labels:,}", f"{one.accuracy:.1%}", *twins, minutes)
    data.print(table)
    data.print(
        f"A twin is scikit-learn's network of the same size, the mean of {_TWINS}: with the "
        "labels of the\nloop, and with as many right ones of random rows. Minutes: from the last "
        "answer to the model\nin service."
    )
    data.print(worth_in_words(labels, last, partial(_twin_by_chance, rows)))


def worth_in_words(labels: int, accuracy: float, by_chance: Callable[[int], float]) -> str:
    """Say how many labels of random rows make a model as accurate as the loops' labels do.

    Args:
        labels: Of the loops.
        accuracy: That a model reaches with them.
        by_chance: Returns the accuracy with so many labels of random rows.
    """
    before, reached = 0, 0.0
    for factor in _FACTORS:
        count = round(labels * factor)
        if (reached := by_chance(count)) >= accuracy:
            least = f"more than {before:,}, at most {count:,}" if before else f"{count:,} or fewer"
            return f"As accurate as {labels:,} labels of the loops: {least} of random rows"
        before = count
    return (
        f"As accurate as {labels:,} labels of the loops: more than {before:,} of random rows, "
        f"which reach {reached:.1%}"
    )


def _of_consensus(said: Said) -> Iterator[str]:
    labels, by_consensus, by_majority = wrong_labels(said)
    fewer = f" ({1 - by_consensus / by_majority:.0%} fewer)" if by_majority else ""
    yield (
        f"Wrong labels of {labels:,}: {by_consensus:,} by consensus, {by_majority:,} by majority"
        f"{fewer}"
    )


def _of_bias(said: Said, layout: PipelineLayout, rows: DigitRows) -> Iterator[str]:
    """Yield what people's labels say of each version, and what is true of all logged rows."""
    record = LabelLoopRecord.read(layout.label_loop)
    settled_labels = {one.place: one.label for one in settled(said.answers, CLASSES).labels}
    for one in record.accuracy:
        own = {
            place: question.guesses[0][0] == settled_labels[place]
            for place, question in said.questions.items()
            if question.version == one.version and place in settled_labels
        }
        plain = float(np.mean([*own.values()]))
        yield (
            f"Version {one.version} is right in {_truth_of(one.version, layout, rows):.1%} of what "
            f"callers sent; by {len(own):,} labels: {one.accuracy:.1%} with weights "
            f"({one.low:.1%} to {one.high:.1%}), {plain:.1%} without"
        )


def _truth_of(version: int, layout: PipelineLayout, rows: DigitRows) -> float:
    """Return the share of right answers among all rows of a version's log."""
    from contract.prediction_log.reading import read_tables

    right = [
        CLASSES[predicted] == rows.truth({"image": image})
        for table in read_tables(layout.predictions(version))
        for predicted, image, arm in zip(
            *(table[name].to_pylist() for name in ("predicted:digit", "input:image", "arm")),
            strict=True,
        )
        if arm in ("stable", "canary")
    ]
    return float(np.mean(right))


def _learned(layout: PipelineLayout) -> Rows:
    """Return the rows of all deltas, in the order in which they were learned."""
    images, labels = [], []
    for path in sorted(
        layout.label_deltas.glob("*.csv"), key=lambda one: int(one.name.partition("-")[0])
    ):
        with path.open(encoding="utf-8") as file:
            for row in csv.DictReader(file):
                images.append(np.array(row["image"].split(), float).reshape(8, 8))
                labels.append(int(row["label"]))
    return np.array(images).reshape(-1, 8, 8), np.array(labels, int)


def _twin_by_chance(rows: DigitRows, count: int) -> float:
    """Return the accuracy with right labels of random rows of the stream, others for each twin."""

    orders = (np.random.default_rng(n).permutation(len(rows.stream[1])) for n in range(_TWINS))
    return _twin(rows, ((rows.stream[0][o[:count]], rows.stream[1][o[:count]]) for o in orders))


def _twin(rows: DigitRows, more: Iterable[Rows]) -> float:
    """Return the accuracy of a small network on base rows and more, the mean of a few seeds."""
    import warnings

    from sklearn.exceptions import ConvergenceWarning

    found, test = [], rows.test[0].reshape(-1, 64) / 16
    for seed, one in zip(range(_TWINS), more, strict=False):
        images = np.concatenate([rows.base[0], one[0]]).reshape(-1, 64) / 16
        labels = np.concatenate([rows.base[1], one[1]])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # it ends with its iterations
            found.append(network(seed).fit(images, labels).score(test, rows.test[1]))
    return float(np.mean(found))


def network(seed: int) -> Any:
    """Return a network of the size of the demo's model, for pixels from 0 to 1."""
    from sklearn.neural_network import MLPClassifier

    return MLPClassifier((64,), solver="lbfgs", alpha=0.3, max_iter=_ITERATIONS, random_state=seed)
