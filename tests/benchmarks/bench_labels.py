"""What the choice of rows to label costs, and how many labels several people's answers get wrong.

Run as `python tests/benchmarks/bench_labels.py [--rows N] [--only PART]`, of which the parts are
choice, consensus, http, sqlite and postgresql. The log has N rows (1,000,000) of ten
classes and 16 numbers as inputs, in files of 100,000 rows. The choice runs in a process of its own,
whose time and memory count from its start: after no question, and after 100,000 questions in
SQLite, which are not asked again; the peer is a choice of the 1,000 least sure rows
without variety, duplicates or probabilities (pandas, the whole log in memory). For the answers the
peer is the majority of five people: three are right in 90 %, one guesses, one is always wrong; by
HTTP it is the five of `slipway demo labels`, who label 400 rows on a real page. The store holds a
million questions, in SQLite and in a PostgreSQL with fsync; 50 people answer at once, each two
seconds after the last answer, and the answer and the next question are timed. The peer is one
person alone.
"""

import argparse
import os
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pyarrow as pa
from support import cost_of, emit

from cli.demo.label_loop import PEOPLE
from cli.demo.labellers import label_page
from cli.demo.loop_report import Said, wrong_labels
from components.labels.consensus.answers import Answers
from components.labels.consensus.dawid_skene import dawid_skene
from contract.layout import PipelineLayout
from contract.loader import validate
from contract.prediction_log.columns import log_schema
from contract.prediction_log.files import LogFile
from contract.prediction_log.writing import write_rows
from contract.records.package import InputSpec
from contract.schema.pipeline import PipelineConfig
from serving.labels.store.adding import add_some, complete
from serving.labels.store.answering import answer, answers
from serving.labels.store.database import Database, sqlite_url
from serving.labels.store.questions import add_questions, next_questions, topic_id
from serving.labels.store.records import NewQuestion, Topic

SEED = 20_261_129
CLASSES, WIDTH, PER_FILE, BUDGET = 10, 16, 100_000, 1_000
ASKED = 100_000  # questions that were asked before the choice
LIMIT_SECONDS, LIMIT_MIB = 60.0, 1024.0
TOPIC = Topic("digits", "digit", tuple(map(str, range(CLASSES))), {})
AT_ONCE = 20_000  # questions in one transaction
BEGIN = datetime(2026, 11, 29, tzinfo=UTC)

OURS = """
import sys
from pathlib import Path
import numpy as np
sys.path.insert(0, "tests/benchmarks")
from bench_labels import BUDGET, make_config
from components.labels.choosing.choice import Budget
from cli.labels.harvesting import asked_before
from components.labels.choosing.questions import Wish, choose_questions
from contract.layout import PipelineLayout
from serving.labels.store.database import Database, sqlite_url
from serving.labels.store.exchange import batches_asked
layout, config = PipelineLayout(Path(sys.argv[1]), "digits"), make_config()
store = Database(sqlite_url(Path(sys.argv[1]) / "labels.db"))
asked = asked_before(store, config, "digit", batches_asked(store, "digits", "digit"))
wish = Wish("digit", "margin", Budget(BUDGET), asked=asked)
found = choose_questions(layout, config, wish, np.random.default_rng(1))
assert abs(len(found) - BUDGET) <= 20, len(found)
"""
PEER = """
import sys
from pathlib import Path
import numpy as np
import pandas as pd
log = pd.concat(map(pd.read_parquet, sorted(Path(sys.argv[1]).rglob("*.parquet"))))
scores = np.sort(np.stack(log["scores:digit"].to_numpy()), axis=1)
log["margin"] = scores[:, -1] - scores[:, -2]
assert len(log.nsmallest(1000, "margin")) == 1000
"""


def make_config() -> PipelineConfig:
    """Return a pipeline of ten classes and one row of numbers."""
    names = [str(number) for number in range(CLASSES)]
    raw = {
        "name": "digits",
        "features": {"numbers": {"dtype": "float32", "shape": [WIDTH]}},
        "heads": {"digit": {"task": "multiclass_classification", "classes": names}},
        "ingest": {"source": {"kind": "csv", "files": ["digits.csv"]}},
    }
    return validate(PipelineConfig, raw, "digits")


def write_log(layout: PipelineLayout, rows: int) -> None:
    """Write a log of one day."""
    random, config = np.random.default_rng(SEED), make_config()
    specs = {name: InputSpec.of(feature) for name, feature in config.features.items()}
    schema = log_schema(config.heads, specs)
    for number, first in enumerate(range(0, rows, PER_FILE)):
        size = min(PER_FILE, rows - first)
        logits = random.standard_normal((size, CLASSES)) * 4
        scores = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        numbers = random.standard_normal((size, WIDTH)).astype(np.float32)
        hour = BEGIN + timedelta(hours=number % 24)
        columns = {
            "time": pa.array([hour] * size),
            "request_id": [f"{first + one:08x}-0000-4000-8000-{one:012x}" for one in range(size)],
            "row": np.zeros(size, np.int32),
            "version": np.ones(size, np.int32),
            "arm": ["stable"] * size,
            "signature": ["predict"] * size,
            "status": np.full(size, 200, np.int16),
            "latency_seconds": np.full(size, 0.001, np.float32),
            "predicted:digit": scores.argmax(axis=1).astype(np.int32),
            "confidence:digit": scores.max(axis=1).astype(np.float32),
            "scores:digit": [*scores.astype(np.float32)],
            "input:numbers": [*numbers],
            "example": pa.nulls(size, pa.binary()),
        }
        file = LogFile(hour, "bench-1-a", first, first + size, layout.predictions(1))
        write_rows(file, pa.table(columns, schema))


def measure_choice(rows: int) -> None:
    """Choose among the rows of a log, ours and the peer's way."""
    with TemporaryDirectory() as folder:
        layout = PipelineLayout(Path(folder), "digits")
        write_log(layout, rows)
        peer = cost_of([sys.executable, "-c", PEER, str(layout.predictions(1))], {})
        for asked in (0, ASKED):
            ask_before(Path(folder), asked)
            ours = cost_of([sys.executable, "-c", OURS, folder], {})
            what = f"labels: {BUDGET:,} of {rows:,} predictions chosen after {asked:,} questions"
            emit(what, ours.seconds, peer.seconds, LIMIT_SECONDS, "s", cpu_seconds=ours.cpu_seconds)
            emit(f"{what}, memory", ours.peak_mib, peer.peak_mib, LIMIT_MIB, "MiB")


def ask_before(folder: Path, count: int) -> None:
    """Add questions about rows that the log does not have."""
    database, random = Database(sqlite_url(folder / "labels.db")), np.random.default_rng(1)
    for first in range(0, count, AT_ONCE):
        rows = random.standard_normal((AT_ONCE, WIDTH)).tolist()
        new = {
            (f"q{first + at}", 0): NewQuestion(f"q{first + at}", 0, {"numbers": row})
            for at, row in enumerate(rows)
        }
        database.change(partial(add_some, topic=TOPIC, wanted=new, people=3))
    if count:
        database.change(partial(complete, topic=TOPIC))
    database.close()


def measure_consensus(classes: int, questions: int, crowds: int = 1) -> None:
    """Label questions from the answers of five people, of whom two spoil the vote."""
    random, began = np.random.default_rng(SEED), time.monotonic()
    wrong, theirs, sure, wrong_sure = 0, 0, 0, 0
    for _ in range(crowds):
        truth = random.integers(0, classes, questions)
        answers = five_people(truth, classes, random)
        found = dawid_skene(answers).probabilities
        is_wrong, is_sure = found.argmax(axis=1) != truth, found.max(axis=1) > 0.9
        wrong, theirs = wrong + is_wrong.sum(), theirs + wrong_by_majority(answers, truth)
        sure, wrong_sure = sure + is_sure.sum(), wrong_sure + (is_wrong & is_sure).sum()
    name = f"labels: wrong of {crowds} times {questions:,} by five people, one guessing, one wrong"
    emit(
        *(f"{name}, {classes} classes", int(wrong), int(theirs), int(theirs) / 5, "labels"),
        **{"seconds": time.monotonic() - began, "sure": int(sure), "wrong_sure": int(wrong_sure)},
    )


def measure_joined(model_right: float, people: int = 2, questions: int = 180) -> None:
    """Label questions by people right in 90 %, alone and joined with what a model guesses."""
    random, alone, joined = np.random.default_rng(SEED), 0, 0
    for _ in range(100):
        truth = random.integers(0, CLASSES, questions)
        erring = (truth[:, None] + random.integers(1, CLASSES, (questions, people + 1))) % CLASSES
        shares = np.array([*[0.9] * people, model_right])
        said = np.where(random.random(erring.shape) < shares, truth[:, None], erring)
        alone += (of_all(said[:, :people]).argmax(axis=1) != truth).sum()
        joined += (of_all(said).argmax(axis=1) != truth).sum()
    what = f"labels: wrong of 100 times {questions} by {people} people and a model right in"
    emit(f"{what} {model_right:.0%}", int(joined), int(alone), None, "labels")


def of_all(said: np.ndarray) -> np.ndarray:
    """Return the consensus of answers, ``[questions, people]``."""
    questions, people = said.shape
    numbers = np.repeat(np.arange(questions), people), np.tile(np.arange(people), questions)
    names = tuple(map(str, range(people)))
    answers = Answers(*numbers, said.ravel(), tuple(range(questions)), names, TOPIC.classes)
    return dawid_skene(answers).probabilities


def measure_consensuses() -> None:
    """Label many questions, and few."""
    for people in (2, 3):
        for model_right in (0.5, 0.7, 0.9):
            measure_joined(model_right, people)
    for classes in (2, 10):
        measure_consensus(classes, 20_000)
    for questions in (60, 180):
        measure_consensus(CLASSES, questions, crowds=100)


def wrong_by_majority(answers: Answers, truth: np.ndarray) -> int:
    """Return how many labels of the most votes are wrong."""
    return int((answers.votes().argmax(axis=1) != truth).sum())


def five_people(truth: np.ndarray, classes: int, random: np.random.Generator) -> Answers:
    """Return what three people say who are right in 90 %, one who guesses, and one always wrong."""
    questions = len(truth)
    erring = (truth[:, None] + random.integers(1, classes, (questions, 3))) % classes
    good = np.where(random.random((questions, 3)) < 0.9, truth[:, None], erring)
    guesses = random.integers(0, classes, (questions, 1))
    said = np.hstack([good, guesses, (truth[:, None] + 1) % classes])
    return Answers(
        np.repeat(np.arange(questions), 5),
        np.tile(np.arange(5), questions),
        said.ravel(),
        tuple(range(questions)),
        ("a", "b", "c", "guesses", "wrong"),
        tuple(map(str, range(classes))),
    )


def measure_over_http(rows: int = 400) -> None:
    """Let five people label rows on a page that is served, and count their wrong labels."""
    truth = {("r" + str(number), "0"): str(number * 7 % CLASSES) for number in range(rows)}
    with TemporaryDirectory() as folder:
        database = Database(sqlite_url(Path(folder) / "labels.db"))
        new = [NewQuestion(f"r{number}", 0, {"x": number}) for number in range(rows)]
        add_questions(database, TOPIC, new, people=len(PEOPLE))
        began, environment = time.monotonic(), {**os.environ, "SLIPWAY_HOME": folder}
        with label_page(PEOPLE, TOPIC.pipeline, environment, Path(folder) / "log") as page:
            count = page.answer_all(
                TOPIC.pipeline, PEOPLE, lambda inputs: truth[f"r{inputs['x']}", "0"], TOPIC.classes
            )
        said = [*answers(database, topic_id(database, TOPIC.pipeline)[0])]
        database.close()
    labels, wrong, theirs = wrong_labels(Said(said, {}, truth))
    what = f"labels: wrong of {labels:,} by five people over HTTP"
    emit(what, wrong, theirs, theirs / 5, "labels", answers=count, seconds=time.monotonic() - began)


def measure_sqlite(rows: int) -> None:
    """Answer questions out of many in SQLite."""
    with TemporaryDirectory() as folder:
        measure_store("SQLite", sqlite_url(Path(folder) / "labels.db"), rows)


def measure_postgresql(rows: int) -> None:
    """Answer questions out of many in a PostgreSQL that writes to the disk."""
    sys.path.insert(0, "tests")
    from postgres import running_postgres

    with running_postgres(is_lasting=True) as server:
        measure_store("PostgreSQL", server.url, rows, lambda: server.sql("checkpoint"))


def measure_store(
    kind: str,
    url: str,
    rows: int,
    rest: Callable[[], None] = lambda: None,
    people: int = 50,
    seconds: float = 30.0,
) -> None:
    """Answer questions out of many, many people at once.

    Args:
        kind: The database's name.
        url: Where it is.
        rows: How many questions there are.
        rest: Waits until the database has written what was added to the disk.
        people: How many answer at once.
        seconds: For how long.
    """
    database, began = Database(url), time.monotonic()
    for first in range(0, rows, AT_ONCE):  # nobody waits: as one harvest, and without its pauses
        some = range(first, min(first + AT_ONCE, rows))
        new = {(f"r{number}", 0): NewQuestion(f"r{number}", 0, {"x": number}) for number in some}
        database.change(partial(add_some, topic=TOPIC, wanted=new, people=3))
    database.change(partial(complete, topic=TOPIC))
    filled = time.monotonic() - began
    rest()
    alone = answer_times(database, 1, seconds / 3)
    together = answer_times(database, people, seconds)
    database.close()
    for name, place in (("the next", 1), ("an answer to one", 0)):
        what = f"labels: {name} of {rows:,} questions in {kind}, {people} people at work, p95"
        p95, peer = (float(np.percentile(times, 95, axis=0)[place]) for times in (together, alone))
        emit(what, 1000 * p95, 1000 * peer, 50.0, "ms", times=len(together), filled=filled)


def answer_times(database: Database, people: int, seconds: float) -> list[tuple[float, float]]:
    """Return how long each answer, and then the next question, has taken, in seconds."""
    number, _ = topic_id(database, "digits")
    times, until = list[tuple[float, float]](), time.monotonic() + seconds

    def work(who: str, pause: float) -> None:
        time.sleep(pause)
        (held,) = next_questions(database, number, who, time.time())
        while time.monotonic() < until:
            began = time.monotonic()
            answer(database, held.question, who, "3", time.time())
            answered = time.monotonic()
            (held,) = next_questions(database, number, who, time.time())
            times.append((answered - began, time.monotonic() - answered))
            time.sleep(2.0)

    threads = [
        threading.Thread(target=work, args=(f"{people}-{one}", 2.0 * one / people))
        for one in range(people)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return times


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--only", nargs="*", default=[])
    asked = parser.parse_args()
    parts: dict[str, Callable[[], None]] = {
        "choice": lambda: measure_choice(asked.rows),
        "consensus": measure_consensuses,
        "http": measure_over_http,
        "sqlite": lambda: measure_sqlite(asked.rows),
        "postgresql": lambda: measure_postgresql(asked.rows),
    }
    for name in asked.only or parts:
        parts[name]()


if __name__ == "__main__":
    main()
