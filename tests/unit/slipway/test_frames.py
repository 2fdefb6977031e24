"""Frames into pipelines and rows, and answers into frames."""

import json
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import slipway
from cli.requests.table_rows import rows_to_send
from components.data.csv_files import read_csv
from components.data.raw_examples import to_columns, to_rows
from components.data.raw_rows import RowParser
from contract.errors import DataError, UserError
from contract.loader import load_pipeline
from contract.records.package import InputSpec
from contract.schema.data import CsvSource
from contract.schema.pipeline import PipelineConfig
from slipway.frames import answers_frame, columns_of, plain_frame

ROWS = 30


@pytest.fixture
def sw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> slipway.Slipway:
    monkeypatch.setenv("SLIPWAY_PIPELINES", "replaced by connect")
    return slipway.connect(pipelines=tmp_path / "pipelines")


def frame(**columns: Any) -> pd.DataFrame:
    return pd.DataFrame({**columns, "y": ["no", "yes"] * (ROWS // 2)})


def csv_source(config: PipelineConfig) -> CsvSource:
    source = config.ingest.source
    assert isinstance(source, CsvSource)
    return source


def numbers(dtype: Any, count: int = 7) -> np.ndarray:
    return (np.arange(ROWS) % count).astype(dtype)


@pytest.mark.parametrize(
    ("column", "dtype", "default"),
    [
        (numbers("int8"), "int64", None),
        (numbers("uint32"), "int64", None),
        (numbers("float32") + 0.5, "float32", None),
        (numbers("float64"), "int64", None),  # whole numbers, however pandas stores them
        (pd.array([1, None, 3] * 10, "Int64"), "int64", 2),
        ([1.5, float("nan"), 2.5] * 10, "float32", 2.0),
        (pd.Categorical(["a", "b", None] * 10), "string", ""),
        (["a", None, "b"] * 10, "string", ""),
        ([True, False, True] * 10, "string", None),
        (["01", "02", "03"] * 10, "string", None),  # text stays text
        (pd.Categorical(["1", "2", None] * 10), "string", ""),
        (pd.Categorical([1, 2, None] * 10), "int64", 2),
        (pd.to_datetime(["2026-01-01", "2026-01-02", None] * 10), "string", ""),
        ([1, "a", 2.5] * 10, "string", None),
    ],
    ids=str,
)
def test_a_columns_type_becomes_the_features(
    column: Any, dtype: str, default: Any, sw: slipway.Slipway
) -> None:
    pipeline = sw.new("made", frame(x=column), label="y")
    (feature,) = load_pipeline(pipeline.folder).features.values()
    assert (feature.dtype, feature.default) == (dtype, default)


@pytest.mark.parametrize(
    "column",
    [
        [True, False, None] * 10,
        [True, False, False] * 10,
        pd.Categorical([True, False, None] * 10),
        pd.to_datetime(["2026-01-01", "2026-01-02", None] * 10),
        pd.to_datetime(["2026-01-01 10:00", "2026-01-02 11:30:15.5", None] * 10, format="mixed"),
        pd.to_datetime(["2026-01-01T10:00+02:00", None, "2026-01-02T10:00+02:00"] * 10),
        [date(2026, 1, 2), None, date(2026, 1, 3)] * 10,
        [1, "a", 2.5] * 10,
        [" padded ", "", None] * 10,
        ["01", "1", "1.0"] * 10,
        ["NA", "nan", "null"] * 10,
        ['a "quoted", text', "two\nlines", "größe"] * 10,
        pd.Categorical(["a", "b", None] * 10),
        pd.array([1, None, 3] * 10, "Int64"),
        [2**53 - 1, -5, 0] * 10,
        [0.1, float("nan"), 1e-7] * 10,
        np.array([0.1, 2.5, 1e-7] * 10, np.float32),
        [Decimal("1.50"), Decimal("2"), None] * 10,
    ],
    ids=str,
)
def test_training_sees_what_predict_sends(column: Any, sw: slipway.Slipway) -> None:
    made = frame(x=column)
    pipeline = sw.new("made", made, label="y")
    config = load_pipeline(pipeline.folder)
    (batch,) = read_csv(pipeline.folder / "data" / "made.csv", csv_source(config))
    parsed = RowParser(config).parse(batch)
    assert parsed.bad == ()
    seen = to_rows(to_columns(parsed.examples, config))
    inputs = {"x": InputSpec.of(config.features["x"])}
    assert rows_to_send(columns_of(made), inputs, range(ROWS)) == seen


def test_the_frame_is_stored_without_its_index_and_text_as_it_is(sw: slipway.Slipway) -> None:
    texts = [" padded", 'a "quoted", text', "two\nlines"] * 10
    made = frame(x=numbers(int), text=texts).set_index(pd.Index(range(100, 130), name="key"))
    pipeline = sw.new("made", made, label="y")
    config = load_pipeline(pipeline.folder)
    assert list(config.features) == ["x", "text"]
    path = pipeline.folder / "data" / "made.csv"
    assert csv_source(config).files == (str(path),)
    assert csv_source(config).is_stripped is False
    stored = pd.read_csv(path)
    assert stored.columns.tolist() == ["x", "text", "y"]
    assert stored["text"].tolist() == texts
    assert (sw.pipelines.count("made"), repr(pipeline)) == (
        1,
        f"<Pipeline made: {pipeline.folder}>",
    )


def test_names_are_text_without_white_space_around(sw: slipway.Slipway) -> None:
    made = frame(x=numbers(int)).rename(columns={"x": " x "}).assign(**{"y ": 1}).drop(columns="y ")
    made[7] = numbers(int, 5)
    config = load_pipeline(sw.new("made", made, label="y").folder)
    assert set(config.features) == {"x", "7"}


def test_a_csv_file_is_taken_as_the_command_line_takes_it(
    sw: slipway.Slipway, tmp_path: Path
) -> None:
    path = tmp_path / "table.csv"
    frame(x=numbers(int)).to_csv(path, index=False)
    config = load_pipeline(sw.new("made", path, label="y").folder)
    assert csv_source(config).files == (str(path),)
    assert csv_source(config).is_stripped is True


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (frame(x=[[1, 2]] * ROWS), "column 'x' holds values of type list; expected numbers"),
        (frame(x=[b"a", b"b"] * 15), "column 'x' holds values of type bytes"),
        (frame(x=[np.zeros(2)] * ROWS), "column 'x' holds values of type ndarray"),
        (frame(x=pd.to_timedelta(numbers(int), "s")), r"durations; convert it with .dt.total_sec"),
        (frame(x=numbers(complex)), "column 'x' holds complex numbers"),
        (frame(x=numbers(int)).rename(columns={"x": "y"}), "column names repeat: y"),
        (frame(x=numbers(int)).rename(columns={"x": " "}), "column 1 has no name"),
        (frame(x=numbers(int)).head(0), "the frame has 0 rows and 2 columns"),
        (pd.DataFrame([[1, 2]], columns=[["a", "a"], ["b", "c"]]), "have 2 levels; expected one"),
        (frame(x=numbers(int)).assign(y=[None, "a"] * 15), "15 of 30 rows have no label"),
        (
            frame(x=pd.Series(["\ud800", "b"] * 15, dtype=object)),
            "column 'x' holds text that is not Unicode",
        ),
    ],
    ids=str,
)
def test_what_is_no_table_is_refused_and_leaves_nothing(
    made: pd.DataFrame, said: str, sw: slipway.Slipway, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=said):
        sw.new("made", made, label="y")
    assert not (tmp_path / "pipelines" / "made").exists()


def test_a_series_is_no_frame() -> None:
    with pytest.raises(DataError, match="expected a DataFrame, found Series"):
        plain_frame(pd.Series([1]))  # type: ignore[arg-type]


def test_a_pipeline_that_is_there_is_not_replaced(sw: slipway.Slipway) -> None:
    sw.new("made", frame(x=numbers(int)), label="y")
    with pytest.raises(UserError, match="pipeline 'made': already exists"):
        sw.new("made", frame(x=numbers(int)), label="y")


# --- rows ---------------------------------------------------------------------------------------

INPUTS = {
    "count": InputSpec(dtype="int64"),
    "share": InputSpec(dtype="float32", default=0.25),
    "word": InputSpec(dtype="string", default=""),
    "ids": InputSpec(dtype="int64", is_variable_length=True),
    "image": InputSpec(dtype="float32", shape=(2, 2)),
}


def sent(**columns: Any) -> list[dict[str, Any]]:
    given = pd.DataFrame(
        {"count": [1, 2], "image": [[[0, 1], [2, 3]], [[4, 5], [6, 7]]], **columns}
    )
    return rows_to_send(columns_of(given), INPUTS, ["a", "b"])


def test_rows_are_sent_by_the_rules_of_the_csv_reader() -> None:
    rows = sent(
        count=[1.0, "2"],
        share=[np.nan, 1],
        word=pd.Categorical(["x", None]),
        ids=[[3, 4], None],
        more=["not", "sent"],
    )
    assert json.loads(json.dumps(rows)) == [
        {"count": 1, "share": 0.25, "word": "x", "ids": [3, 4], "image": [[0, 1], [2, 3]]},
        {"count": 2, "share": 1.0, "word": "", "ids": [], "image": [[4, 5], [6, 7]]},
    ]


def test_columns_with_a_default_may_be_absent() -> None:
    assert [row["share"] for row in sent()] == [0.25, 0.25]
    assert [row["ids"] for row in sent()] == [[], []]


def test_dates_are_sent_as_a_csv_file_has_them() -> None:
    assert sent(word=[datetime(2026, 1, 2, tzinfo=UTC), None])[0]["word"] == "2026-01-02 00:00:00Z"


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"count": [1, None]}, "row 2 \\('b'\\): count: missing, without a default"),
        ({"count": [1.5, 2]}, "row 1 \\('a'\\): count: not an int64, found 1.5"),
        ({"share": ["x", 1]}, "row 1 \\('a'\\): share: not a float32, found 'x'"),
        ({"share": [1, float("inf")]}, "row 2 \\('b'\\): share: not a finite number"),
        ({"word": [{"a": 1}, {"a": 2}]}, "column 'word' is a struct"),
    ],
)
def test_a_row_that_cannot_be_sent_is_named(columns: dict[str, Any], said: str) -> None:
    with pytest.raises(DataError, match=said):
        sent(**columns)


def test_text_that_is_not_unicode_is_named() -> None:
    with pytest.raises(DataError, match="column 'word' holds text that is not Unicode"):
        sent(word=pd.Series(["\ud800", "b"], dtype=object))


def test_at_most_five_rows_are_named() -> None:
    with pytest.raises(DataError, match="and 3 rows more") as caught:
        rows_to_send(
            columns_of(pd.DataFrame({"count": ["x"] * 8})), {"count": INPUTS["count"]}, range(8)
        )
    assert len(str(caught.value).splitlines()) == 6


def test_a_missing_column_is_named_with_the_nearest() -> None:
    with pytest.raises(DataError, match="no column 'count'; did you mean 'counts'\\?; it has no"):
        rows_to_send(columns_of(pd.DataFrame({"counts": [1]})), INPUTS, [0])


def test_answers_have_the_frames_index_and_a_column_per_class() -> None:
    named: list[Any] = [
        {"left": {"class": "no", "scores": {"no": 0.9, "yes": 0.1}}, "price": {"value": 3.5}},
        {"left": {"class": "yes", "scores": {"no": 0.2, "yes": 0.8}}, "price": {"value": 4.5}},
    ]
    found = answers_frame(named, pd.Index(["b", "a"], name="key"))
    assert found.index.tolist() == ["b", "a"]
    assert found.columns.tolist() == ["left", "left:no", "left:yes", "price"]
    assert found.loc["a"].tolist() == ["yes", 0.2, 0.8, 4.5]
