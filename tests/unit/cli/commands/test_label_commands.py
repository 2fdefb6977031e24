"""From the prediction log to labels, by commands: chosen, asked, answered, and made one label."""

import csv
import json
import shutil
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from typer.testing import CliRunner, Result

from cli.main import app
from cli.stack.stack_file import artifact_root
from contract.layout import PipelineLayout
from contract.loader import load_pipeline, state_folder
from contract.pipelines import find_pipeline
from contract.prediction_log.columns import log_schema
from contract.prediction_log.files import LogFile, hour_of
from contract.prediction_log.writing import write_rows
from contract.records.package import InputSpec
from serving.labels.store.answering import answer, answers
from serving.labels.store.database import Database, sqlite_url
from serving.labels.store.questions import next_questions, topic_id

runner = CliRunner()
NOW = datetime(2026, 11, 29, 15, 20, tzinfo=UTC)
CLASSES = 10


def slipway(*words: str, exit_code: int = 0) -> Result:
    result = runner.invoke(app, ["labels", *words])
    assert result.exit_code == exit_code, result.stderr
    return result


@pytest.fixture
def layout() -> PipelineLayout:
    """A log of twenty digits, of which the last ten are unsure."""
    layout = PipelineLayout(artifact_root(), "digits")
    config = load_pipeline(find_pipeline("digits"))
    specs = {name: InputSpec.of(feature) for name, feature in config.features.items()}
    rows = [
        {
            **{"time": NOW, "request_id": f"r{n}", "row": 0, "version": 1, "arm": "stable"},
            **{"signature": "predict", "status": 200, "latency_seconds": 0.001},
            "predicted:digit": n % 10,
            "confidence:digit": 1.0 if n < 10 else 0.5,
            "scores:digit": scores(n % 10, 1.0 if n < 10 else 0.5),
            "input:image": np.full((8, 8), n / 2, np.float32).tolist(),
        }
        for n in range(20)
    ]
    table = pa.Table.from_pylist(rows, log_schema(config.heads, specs))
    write_rows(LogFile(hour_of(NOW), "h-1-a", 0, 20, layout.predictions(1)), table)
    return layout


def scores(best: int, score: float) -> list[float]:
    found = [0.0] * CLASSES
    found[(best + 1) % CLASSES] = 1 - score
    found[best] = score
    return found


def answer_all(who: str) -> None:
    """Answer every question as the image says: its pixels are half the number of its request."""
    database = Database(sqlite_url(state_folder() / "labels.db"))
    topic, _ = topic_id(database, "digits")
    while held := next_questions(database, topic, who, NOW.timestamp()):
        digit = int(2 * held[0].inputs["image"][0][0]) % 10
        answer(database, held[0].question, who, str(digit), NOW.timestamp())


def test_chosen_rows_are_written_with_an_empty_label(
    layout: PipelineLayout, tmp_path: Path
) -> None:
    out = tmp_path / "ask.csv"
    done = slipway("choose", "digits", "--budget", "5", "--seed", "1", "--out", str(out))
    rows = [*csv.DictReader(out.open())]
    assert 4 <= len(rows) <= 5 and {row["label"] for row in rows} == {""}
    assert sum(int(row["request_id"][1:]) >= 10 for row in rows) >= 4  # one may be an audit
    assert f"{len(rows)} rows to label" in done.stderr


def test_questions_are_answered_exported_and_made_labels(
    layout: PipelineLayout, tmp_path: Path
) -> None:
    wish = ["--budget", "20", "--audit-ratio", "0.5", "--people", "2", "--seed", "1"]
    first = slipway("harvest", "digits", *wish)
    again = slipway("harvest", "digits", *wish)
    count = int(first.stderr.split()[0])
    # what is worth asking has been asked, and of the audit's ten each is a question
    assert count >= 10 and again.stderr.startswith("0 new questions, 10 known already")
    for who in ("ada", "bob"):
        answer_all(who)
    answers, labels = tmp_path / "answers.csv", tmp_path / "labels.csv"
    assert (
        f"{2 * count} answers by 2 people"
        in slipway("export", "digits", "--out", str(answers)).stderr
    )
    slipway("consensus", "digits", str(answers), "--out", str(labels))
    found = [*csv.DictReader(labels.open())]
    assert len(found) == count
    assert all(int(row["label"]) == int(row["request_id"][1:]) % 10 for row in found)
    chosen = {row["request_id"]: row["probability"] for row in csv.DictReader(answers.open())}
    assert {row["request_id"]: row["probability"] for row in found} == chosen
    assert min(map(float, chosen.values())) < 1  # the judge would take 1 without the column


def test_gold_rows_are_asked_of_everybody_and_make_no_labels(
    layout: PipelineLayout, tmp_path: Path
) -> None:
    known, answers, labels = (tmp_path / f"{name}.csv" for name in ("known", "answers", "labels"))
    known.write_text("request_id,row,label\nr3,0,3\nr4,0,4\ngone,0,1\n")
    done = slipway("gold", "digits", str(known))
    assert "2 new gold questions, 0 rows are questions already, 1 are not" in done.stderr
    database = Database(sqlite_url(state_folder() / "labels.db"))
    held = next_questions(database, topic_id(database, "digits")[0], "cy", NOW.timestamp(), 2)
    best = {str(int(2 * one.inputs["image"][0][0])): one.guesses[0] for one in held}
    assert best == {"3": ("3", 1.0), "4": ("4", 1.0)}  # as all questions have them
    slipway("harvest", "digits", "--budget", "9", "--people", "1", "--seed", "1")
    for who in ("ada", "bob"):
        answer_all(who)
    slipway("export", "digits", "--out", str(answers))
    said = [*csv.DictReader(answers.open())]
    gold = [(row["request_id"], row["labeller"]) for row in said if row["gold"]]
    assert sorted(gold) == [("r3", "ada"), ("r3", "bob"), ("r4", "ada"), ("r4", "bob")]
    slipway("consensus", "digits", str(answers), "--min-confidence", "0", "--out", str(labels))
    found = {row["request_id"] for row in csv.DictReader(labels.open())}
    assert found == {row["request_id"] for row in said} - {"r3", "r4"}
    assert "2 of 2 gold questions right" in slipway("learn", "digits").stderr


def test_what_people_agree_on_becomes_labelled_rows_once(layout: PipelineLayout) -> None:
    wish = ["--budget", "20", "--audit-ratio", "0.2", "--people", "2", "--seed", "1"]
    slipway("harvest", "digits", *wish)
    for who in ("ada", "bob"):
        answer_all(who)
    first = json.loads(slipway("learn", "digits", "--json").stdout)
    database = Database(sqlite_url(state_folder() / "labels.db"))
    said = [*answers(database, topic_id(database, "digits")[0])]
    audits = {one.request_id for one in said if one.is_audit}
    wanted = {one.request_id for one in said} - audits
    assert audits and first["added"] == len(wanted)
    assert (first["author"], first["bad"]) == ("consensus of 2 people", [])
    assert Path(first["delta"]).read_text().startswith("image,label\n")
    shutil.rmtree(layout.prediction_logs)  # as serve.prediction_log_days does after a while
    again = json.loads(slipway("learn", "digits", "--json").stdout)
    assert (again["added"], again["duplicates"], again["delta"]) == (0, len(wanted), None)


def test_people_teach_after_the_log_is_gone(layout: PipelineLayout) -> None:
    slipway("harvest", "digits", "--budget", "20", "--people", "2", "--seed", "1")
    for who in ("ada", "bob"):
        answer_all(who)
    shutil.rmtree(layout.prediction_logs)
    learned = json.loads(slipway("learn", "digits", "--json").stdout)
    with Path(learned["delta"]).open() as file:
        rows = [*csv.DictReader(file)]
    assert len(rows) == learned["added"] > 5 and learned["bad"] == []
    assert all(int(2 * float(row["image"].split()[0])) % 10 == int(row["label"]) for row in rows)


def test_a_pipeline_whose_rows_need_more_is_refused_at_harvest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "pipelines" / "people"
    folder.mkdir(parents=True)
    classes = {"task": "binary_classification", "classes": ["low", "high"]}
    raw = {
        "name": "people",
        "features": {"age": {"dtype": "int64"}},
        "heads": {"income": classes, "rent": classes},
        "ingest": {
            "source": {"kind": "csv", "files": ["people.csv"]},
            "split": {"key": "household"},
        },
    }
    (folder / "pipeline.yaml").write_text(json.dumps(raw))
    monkeypatch.setenv("SLIPWAY_PIPELINES", str(folder.parent))
    refused = slipway("harvest", "people", "--head", "income", exit_code=2)
    assert "a row also needs rent, household, which" in " ".join(refused.stderr.split())
    measuring = slipway("harvest", "people", "--head", "income", "--audit-ratio", "1", exit_code=2)
    assert "no answered rows in the given time" in " ".join(measuring.stderr.split())


def test_gold_that_is_no_class_is_refused(layout: PipelineLayout, tmp_path: Path) -> None:
    known = tmp_path / "known.csv"
    known.write_text("request_id,row,label\nr3,0,three\n")
    done = slipway("gold", "digits", str(known), exit_code=2)
    words = " ".join(done.stderr.split())
    assert "line 2: expected a row's number and one of 0, 1, 2, 3" in words


def test_label_studio_takes_questions_and_gives_answers(
    layout: PipelineLayout, tmp_path: Path
) -> None:
    slipway("harvest", "digits", "--budget", "10", "--people", "1", "--seed", "1")
    file = tmp_path / "tasks.json"
    slipway("export", "digits", "--format", "label-studio", "--out", str(file))
    tasks = json.loads(file.read_text())
    best = tasks[0]["predictions"][0]["result"][0]
    assert (best["from_name"], best["type"], len(best["value"]["choices"])) == (
        "label",
        "choices",
        1,
    )
    choice = {"type": "choices", "value": {"choices": ["7"]}}
    for task in tasks:
        task["annotations"] = [{"completed_by": {"email": "ada@lab"}, "result": [choice]}]
    tasks[0]["annotations"].append({"completed_by": 2, "was_cancelled": True, "result": [choice]})
    tasks.append({**tasks[0], "data": {"request_id": "gone", "row": 3}})
    file.write_text(json.dumps(tasks))
    done = slipway("import", "digits", str(file), "--format", "label-studio")
    assert f"{len(tasks) - 1} answers, 0 known already, 1 refused" in done.stderr
    assert "gone, row 3, ada@lab: no such question; harvest it first" in done.stderr
    again = slipway("import", "digits", str(file), "--format", "label-studio")
    assert f"0 answers, {len(tasks) - 1} known already" in again.stderr


def test_answers_as_csv_are_taken_and_wrong_ones_told(
    layout: PipelineLayout, tmp_path: Path
) -> None:
    slipway("harvest", "digits", "--budget", "10", "--people", "1", "--seed", "1")
    exported = slipway("export", "digits", "--format", "label-studio")
    place = json.loads(exported.stdout)[0]["data"]["request_id"]
    file = tmp_path / "answers.csv"
    file.write_text(
        f"request_id,row,labeller,label\n{place},0,ada,7\n{place},0,ada,8\n{place},0,bob,ten\n"
        f"{place},0,cy,\n"
    )
    done = slipway("import", "digits", str(file))
    assert "1 answers, 0 known already, 2 refused" in done.stderr
    assert "you have answered '7'" in done.stderr and "'ten' is none of 0, 1, 2" in done.stderr


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("request_id,row,label\na,0,7\n", "no column labeller; expected request_id, row, labeller"),
        ("request_id,row,labeller,label\na,x,ada,7\n", "line 2: expected a row's number and a lab"),
        (
            f"request_id,row,labeller,label\na,{'9' * 5_000},ada,7\n",
            "line 2: expected a row's number and a labeller",
        ),
    ],
)
def test_files_that_are_no_answers_are_refused(
    layout: PipelineLayout, tmp_path: Path, text: str, words: str
) -> None:
    slipway("harvest", "digits", "--budget", "10", "--seed", "1")
    file = tmp_path / "answers.csv"
    file.write_text(text)
    assert words in " ".join(slipway("import", "digits", str(file), exit_code=2).stderr.split())


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('[{"data": {"text": "x"}}]', "task 0: 'data' has no request_id and row"),
        ('{"data": 1}', "expected a list of tasks as Label Studio exports them"),
        ("nothing", "expected a list of tasks as Label Studio exports them"),
    ],
)
def test_json_that_is_not_label_studios_is_refused(
    layout: PipelineLayout, tmp_path: Path, text: str, words: str
) -> None:
    slipway("harvest", "digits", "--budget", "10", "--seed", "1")
    file = tmp_path / "tasks.json"
    file.write_text(text)
    done = slipway("import", "digits", str(file), "--format", "label-studio", exit_code=2)
    assert words in " ".join(done.stderr.split())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["choose", "digits", "--by", "marign"], "unknown measure; did you mean 'margin'?"),
        (["choose", "digits", "--since", "noon"], "--since noon: expected a date or a time in UTC"),
        (["export", "digits", "--format", "xml"], "--format xml: expected csv or label-studio"),
        (["export", "digits"], "no questions about digits"),
        (["serve", "--host", "0.0.0.0"], "tokens would cross the network unencrypted"),
    ],
)
def test_what_is_not_understood_is_told(words: list[str], said: str) -> None:
    assert said in " ".join(slipway(*words, exit_code=2).stderr.split())
