"""Newly labelled rows: checked row by row, stored once, listed and announced."""

import json
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from components.data.label_deltas import list_deltas, newest_deltas
from components.labels.__main__ import main
from components.labels.labelled_files import LabelFile
from components.labels.labels import add_labels, announce, list_labels
from contract.errors import DataError
from contract.layout import PipelineLayout
from contract.loader import validate
from contract.prediction_log.columns import log_schema
from contract.prediction_log.files import LogFile, hour_of
from contract.prediction_log.writing import write_rows
from contract.records.labels import LabelsRecord, labels_asset
from contract.records.package import InputSpec
from contract.schema.pipeline import PipelineConfig

HEADER = "age,job,income\n"
NOW = datetime(2026, 11, 29, 15, tzinfo=UTC)


@pytest.fixture
def layout(tmp_path: Path) -> PipelineLayout:
    return PipelineLayout(tmp_path / "root", "people")


def make_config(columns: list[str] | None = None, key: str | None = None) -> PipelineConfig:
    raw = {
        "name": "people",
        "features": {
            "age": {"dtype": "int64", "minimum": 0},
            "job": {"dtype": "string", "default": "none"},
        },
        "heads": {"income": {"task": "binary_classification", "classes": ["low", "high"]}},
        "ingest": {
            "source": {
                "kind": "csv",
                "files": ["people.csv"],
                "missing": ["", "?"],
                "columns": columns,
            },
            "split": {"key": key},
        },
    }
    return validate(PipelineConfig, raw, "people")


def add(layout: PipelineLayout, config: PipelineConfig, file: Path) -> LabelsRecord:
    return add_labels(layout, config, LabelFile(file), "ada", NOW)


def delta_text(layout: PipelineLayout, record: LabelsRecord) -> str:
    return (layout.label_deltas / record.delta).read_text()


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "new.csv"
    path.write_text(text)
    return path


def test_valid_rows_are_stored_and_bad_ones_reported(
    layout: PipelineLayout, tmp_path: Path
) -> None:
    file = write(tmp_path, HEADER + "1,smith,low\nx,cook,high\n2,?,high\n3,cook,rich\n")
    added = add(layout, make_config(), file)
    assert (added.added, added.corrected, added.duplicates) == (2, 0, 0)
    assert [(bad.row, bad.reason) for bad in added.bad] == [
        (3, "age: not an int64"),
        (5, "label 'income': not one of 'low', 'high'"),
    ]
    assert delta_text(layout, added) == HEADER + "1,smith,low\n2,,high\n"
    assert added.delta.startswith("1-")


def counts(added: LabelsRecord) -> tuple[int, int, int]:
    return added.added, added.corrected, added.duplicates


def test_rows_that_say_what_stands_already_are_not_stored_again(
    layout: PipelineLayout, tmp_path: Path
) -> None:
    config = make_config()
    add(layout, config, write(tmp_path, HEADER + "1,smith,low\n"))
    again = add(layout, config, write(tmp_path, HEADER + "1,smith,low\n1, smith ,low\n"))
    assert (again.delta, *counts(again)) == ("", 0, 0, 2)
    more = add(layout, config, write(tmp_path, HEADER + "1,smith,low\n9,cook,low\n9,cook,low\n"))
    assert counts(more) == (1, 0, 2)
    assert [path.name.partition("-")[0] for path in list_deltas(layout)] == ["1", "2"]


def test_the_newest_label_of_a_row_stands(layout: PipelineLayout, tmp_path: Path) -> None:
    config = make_config()
    add(layout, config, write(tmp_path, HEADER + "1,smith,low\n2,cook,low\n"))
    corrected = add(layout, config, write(tmp_path, HEADER + "1,smith,high\n2,cook,low\n"))
    assert counts(corrected) == (0, 1, 1)
    assert delta_text(layout, corrected) == HEADER + "1,smith,high\n"
    back = add(layout, config, write(tmp_path, HEADER + "1,smith,low\n"))
    assert counts(back) == (0, 1, 0)
    newest = newest_deltas(list_deltas(layout), config)
    assert sorted(name.partition("-")[0] for name in newest.values()) == ["1", "3"]


def test_two_answers_of_one_row_in_a_file_are_both_refused_with_their_lines(
    layout: PipelineLayout, tmp_path: Path
) -> None:
    text = "1,cook,low\n2,cook,low\n1, cook ,high\n2,cook,low\n"
    record = add(layout, make_config(), write(tmp_path, HEADER + text))
    assert counts(record) == (1, 0, 1)
    assert [(bad.row, bad.reason) for bad in record.bad] == [
        (2, "line 4 has the same features and another answer; keep one of them"),
        (4, "line 2 has the same features and another answer; keep one of them"),
    ]
    assert delta_text(layout, record) == HEADER + "2,cook,low\n"


def test_equal_rows_of_different_weights_have_the_mean_of_them(
    layout: PipelineLayout, tmp_path: Path
) -> None:
    config = make_config().model_copy(update={"weight": "worth"})
    text = "age,job,income,worth\n1,cook,low,0.4\n2,cook,low,3\n1, cook ,low,1.7\n"
    first = add(layout, config, write(tmp_path, text))
    assert (counts(first), first.bad) == ((2, 0, 1), ())
    assert delta_text(layout, first) == "age,job,income,worth\n1,cook,low,1.05\n2,cook,low,3\n"
    assert counts(add(layout, config, write(tmp_path, text))) == (0, 0, 3)
    other = add(layout, config, write(tmp_path, text.replace("0.4", "0.8")))
    assert counts(other) == (0, 1, 2)


def test_rows_that_share_a_key_of_the_split_are_rows_of_their_own(
    layout: PipelineLayout, tmp_path: Path
) -> None:
    config = make_config(key="job")
    added = add(layout, config, write(tmp_path, HEADER + "1,cook,low\n2,cook,low\n"))
    assert counts(added) == (2, 0, 0)


def test_columns_may_stand_in_any_order_and_others_are_left_out(
    layout: PipelineLayout, tmp_path: Path
) -> None:
    file = write(tmp_path, "who,income,job,age\nbob,low,cook,4\n")
    added = add(layout, make_config(), file)
    assert delta_text(layout, added) == HEADER + "4,cook,low\n"


def test_a_file_without_header_is_read_like_the_source_without_header(
    layout: PipelineLayout, tmp_path: Path
) -> None:
    config = make_config(columns=["age", "job", "income"])
    assert add(layout, config, write(tmp_path, "4,cook,low\n")).added == 1
    assert add(layout, config, write(tmp_path, HEADER + "5,cook,low\n")).added == 1


def test_a_file_without_valid_rows_is_refused_and_nothing_is_stored(
    layout: PipelineLayout, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=r"no valid row:\n  line 2: age: not an int64 'x'"):
        add(layout, make_config(), write(tmp_path, HEADER + "x,cook,low\n"))
    assert list_deltas(layout) == []


def test_a_file_that_lacks_the_label_is_refused(layout: PipelineLayout, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"missing columns: 'income'"):
        add(layout, make_config(), write(tmp_path, "age,job\n1,cook\n"))


def test_deltas_are_listed_by_number_and_strangers_ignored(layout: PipelineLayout) -> None:
    layout.label_deltas.mkdir(parents=True)
    for name in ("10-aaaaaaaaaaaa.csv", "9-bbbbbbbbbbbb.csv", "notes.csv", ".9-tmp.csv"):
        (layout.label_deltas / name).touch()
    assert [path.name for path in list_deltas(layout)] == [
        "9-bbbbbbbbbbbb.csv",
        "10-aaaaaaaaaaaa.csv",
    ]


# --- listing and announcing ---------------------------------------------------------------------


def test_deltas_are_listed_with_who_added_them_and_when(
    layout: PipelineLayout, tmp_path: Path
) -> None:
    config = make_config()
    first = add(layout, config, write(tmp_path, HEADER + "1,smith,low\nx,cook,high\n"))
    second = add(layout, config, write(tmp_path, HEADER + "1,smith,high\n"))
    assert list_labels(layout, config) == [first, second]
    assert (first.author, first.added_at) == ("ada", NOW)
    assert [(bad.row, bad.found) for bad in first.bad] == [(3, "'x'")]


def test_a_delta_without_a_record_is_listed_by_its_rows(
    layout: PipelineLayout, tmp_path: Path
) -> None:
    config = make_config()
    made = add(layout, config, write(tmp_path, HEADER + "1,smith,low\n2,cook,low\n"))
    (layout.label_deltas / made.delta).with_suffix(".json").unlink()
    (found,) = list_labels(layout, config)
    assert (found.delta, found.added, found.author) == (made.delta, 2, "")


def test_only_news_is_announced(layout: PipelineLayout, tmp_path: Path) -> None:
    events: list[tuple[str, Mapping[str, Any]]] = []

    def announcer(uri: str, extra: Mapping[str, Any]) -> None:
        events.append((uri, extra))

    config, file = make_config(), write(tmp_path, HEADER + "1,smith,low\n2,cook,low\n")
    first = add(layout, config, file)
    assert announce(first, announcer)
    assert not announce(add(layout, config, file), announcer)
    assert events == [("slipway://people/labels", {"rows": 2, "delta": first.delta})]


def test_the_asset_is_the_one_that_starts_a_run() -> None:
    dags = Path(__file__).parents[4] / "dags" / "pipelines.py"
    assert f'Asset(f"{labels_asset("{config.name}")}")' in dags.read_text()


def test_importing_needs_neither_tensorflow_nor_tfx_bsl() -> None:
    code = """
import sys
import components.labels.labels, components.labels.__main__
print([name for name in ("tensorflow", "tfx_bsl", "keras", "apache_beam") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_the_command_of_a_dag_prints_the_record(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "pipelines" / "people"
    folder.mkdir(parents=True)
    config = json.loads(make_config().model_dump_json(exclude_defaults=True))
    (folder / "pipeline.yaml").write_text(json.dumps(config))
    monkeypatch.setenv("SLIPWAY_PIPELINES", str(folder.parent))
    file = write(tmp_path, HEADER + "1,smith,low\n")
    command = ["--pipeline", "people", "--root", str(tmp_path / "root"), "--file", str(file)]
    assert main([*command, "--author", "ada"]) == 0
    record = LabelsRecord.model_validate_json(capsys.readouterr().out)
    assert (record.added, record.author) == (1, "ada")
    file.unlink()
    assert main(command) == 2


# --- rows that are named by their prediction ----------------------------------------------------

PREDICTED = "request_id,row,income\n"


def log_inputs(layout: PipelineLayout, version: int, *rows: tuple[str, int, Any]) -> None:
    """Write a log: request id, row, and inputs or None where they were not sampled."""
    config = make_config()
    specs = {name: InputSpec.of(feature) for name, feature in config.features.items()}
    table = pa.Table.from_pylist(
        [
            {
                "time": NOW, "request_id": request_id, "row": row, "version": version, "arm": "",
                "signature": "serving_default", "status": 200, "latency_seconds": 0.1,
                **({} if inputs is None else {"input:age": inputs[0], "input:job": inputs[1]}),
            }
            for request_id, row, inputs in rows
        ],
        log_schema(config.heads, specs),
    )  # fmt: skip
    write_rows(LogFile(hour_of(NOW), "h-1-a", 0, len(rows), layout.predictions(version)), table)


def test_predictions_are_labelled_by_request_and_row(
    layout: PipelineLayout, tmp_path: Path
) -> None:
    log_inputs(layout, 1, ("a", 0, (41, b"cook")), ("a", 1, (42, b"smith")))
    log_inputs(layout, 2, ("b", 0, (43, b"caf\xc3\xa9 owner")))
    file = write(tmp_path, PREDICTED + "a,1,high\nb,0,low\n")
    record = add(layout, make_config(), file)
    assert (counts(record), record.bad) == ((2, 0, 0), ())
    assert delta_text(layout, record) == HEADER + "42,smith,high\n43,café owner,low\n"


def test_inputs_that_were_kept_need_no_log(layout: PipelineLayout, tmp_path: Path) -> None:
    log_inputs(layout, 1, ("b", 0, (43, b"smith")))
    file = write(tmp_path, PREDICTED + "a,1,high\nb,0,low\nz,0,low\n")
    kept = {("a", "1"): {"age": 42, "job": "café owner"}}
    record = add_labels(layout, make_config(), LabelFile(file, kept), "ada", NOW)
    assert ([bad.row for bad in record.bad], counts(record)) == ([4], (2, 0, 0))
    assert delta_text(layout, record) == HEADER + "42,café owner,high\n43,smith,low\n"


def test_a_consensus_never_replaces_a_label_that_somebody_has_added(
    layout: PipelineLayout, tmp_path: Path
) -> None:
    def consensus(lines: str) -> LabelsRecord:
        file = LabelFile(write(tmp_path, HEADER + lines), is_consensus=True)
        return add_labels(layout, make_config(), file, "consensus of 3 people", NOW)

    assert counts(consensus("42,smith,low\n43,cook,low\n")) == (2, 0, 0)
    assert counts(add(layout, make_config(), write(tmp_path, HEADER + "42,smith,high\n"))) == (
        0,
        1,
        0,
    )
    record = consensus("42,smith,low\n43,cook,high\n44,clerk,low\n")
    assert (counts(record), record.kept) == ((1, 1, 0), 1)
    assert delta_text(layout, record) == HEADER + "43,cook,high\n44,clerk,low\n"
    assert counts(consensus("42,smith,high\n")) == (0, 0, 1)  # as the person says
    by_hand = add(layout, make_config(), write(tmp_path, HEADER + "42,smith,low\n"))
    assert counts(by_hand) == (0, 1, 0)


def test_predictions_that_are_not_known_are_refused_with_their_line(
    layout: PipelineLayout, tmp_path: Path
) -> None:
    log_inputs(layout, 1, ("a", 0, (41, b"cook")), ("not sampled", 0, None))
    lines = "a,0,low\nz,0,low\na,1,low\na,,low\na,x,low\nnot sampled,0,low\na,0,rich\n"
    record = add(layout, make_config(), write(tmp_path, PREDICTED + lines))
    assert counts(record) == (1, 0, 0)
    unknown = "request_id and row: not in the prediction log with their inputs"
    assert [(bad.row, bad.reason.partition(" (")[0]) for bad in record.bad] == [
        *((line, unknown) for line in (3, 4, 5, 6, 7)),
        (8, "label 'income': not one of 'low', 'high'"),
    ]
    assert record.bad[0].found == "'z', 0"


def test_two_answers_of_one_prediction_are_refused(layout: PipelineLayout, tmp_path: Path) -> None:
    log_inputs(layout, 1, ("a", 0, (41, b"cook")), ("b", 0, (42, b"cook")))
    file = write(tmp_path, PREDICTED + "a,0,low\nb,0,low\na,0,high\n")
    record = add(layout, make_config(), file)
    assert [bad.row for bad in record.bad] == [2, 4]
    assert delta_text(layout, record) == HEADER + "42,cook,low\n"


def test_features_that_text_cannot_say_are_refused(layout: PipelineLayout, tmp_path: Path) -> None:
    log_inputs(layout, 1, ("a", 0, (41, b"cook")), ("b", 0, (42, b" cook ")))
    file = write(tmp_path, PREDICTED + "a,0,low\nb,0,low\n")
    record = add(layout, make_config(), file)
    (bad,) = record.bad
    assert (bad.row, bad.reason) == (3, "its features cannot be written as text and read again")


def test_an_empty_text_is_labelled_where_it_is_what_a_missing_one_means(
    layout: PipelineLayout, tmp_path: Path
) -> None:
    log_inputs(layout, 1, ("a", 0, (41, b"")))
    kept = {("b", "0"): {"age": 42, "job": ""}}
    file = LabelFile(write(tmp_path, PREDICTED + "a,0,high\nb,0,low\n"), kept)
    with pytest.raises(DataError, match="cannot be written as text"):  # it would become "none"
        add_labels(layout, make_config(), file, "ada", NOW)
    config = make_config()
    job = config.features["job"].model_copy(update={"default": ""})
    config = config.model_copy(update={"features": {**config.features, "job": job}})
    record = add_labels(layout, config, file, "ada", NOW)
    assert (counts(record), record.bad) == ((2, 0, 0), ())
    assert delta_text(layout, record) == HEADER + "41,,high\n42,,low\n"


def test_an_empty_cell_is_refused_in_plain_words(layout: PipelineLayout, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"line 2: label 'income': missing$"):
        add(layout, make_config(), write(tmp_path, HEADER + "1,smith,\n"))
    record = add(layout, make_config(), write(tmp_path, HEADER + "1,smith,\n2,cook,low\n"))
    assert [(bad.reason, bad.found) for bad in record.bad] == [("label 'income': missing", "")]


def test_predictions_without_a_column_for_the_label_are_refused(
    layout: PipelineLayout, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match="missing columns: 'income'"):
        add(layout, make_config(), write(tmp_path, "request_id,row\na,0\n"))
