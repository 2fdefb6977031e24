"""How rows are assigned to splits: by a hash, by a column that names the split, or by time."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from contract.schema.section import Ratio, Section

SplitName = Literal["train", "eval", "test"]
TimeUnit = Literal["s", "ms", "us", "ns"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def microseconds(moment: str) -> int:
    """Return an ISO 8601 date or time as microseconds since 1970; without a zone it is in UTC.

    Raises:
        ValueError: If it is not one.
    """
    read = datetime.fromisoformat(moment)
    aware = read if read.tzinfo else read.replace(tzinfo=UTC)
    return (aware - _EPOCH) // timedelta(microseconds=1)


def _moment_as_text(value: Any) -> Any:
    """Return the date that YAML makes of unquoted digits as text."""
    return value.isoformat() if isinstance(value, date) else value


def _checked_moment(text: str) -> str:
    try:
        microseconds(text)
    except ValueError as error:
        raise ValueError(
            f"expected a date or time such as 2024-01-31 or 2024-01-31T18:30:00+01:00: {error}"
        ) from error
    return text


Moment = Annotated[str, BeforeValidator(_moment_as_text), AfterValidator(_checked_moment)]


class SplitConfig(Section):
    """How rows are assigned to splits: by a hash, by a column that says it, or by time."""

    by: Literal["hash", "column", "time"] = Field(
        "hash",
        description="What decides: a hash of the key or group (permanently), the value of "
        "`column`, or the time in `column` (oldest rows to train, newest to test).",
    )
    train: Ratio = Field(
        0.8, description="Share of the rows in the train split, above 0 and up to 1."
    )
    eval: Ratio = Field(
        0.1, description="Share of the rows in the eval split, above 0 and up to 1."
    )
    test: Ratio = Field(
        0.1, description="Share of the rows in the test split, from 0 to 1; the three sum to 1."
    )
    key: str | None = Field(
        None,
        description="Column that identifies a row, and whose hash decides where there is no "
        "`group`; null: the whole row is hashed.",
    )
    group: str | None = Field(
        None,
        description="Column such as a user's id: by hash, all rows with one value are in one "
        "split; by column or time, groups in several splits are counted and reported. null: none.",
    )
    column: str | None = Field(
        None, description="Column that names the split, or holds the time; null with `by: hash`."
    )
    values: dict[str, SplitName] = Field(
        {},
        description="With `by: column`, the split of each value; empty: train, eval and test name "
        "themselves. A row with another value is a bad row.",
    )
    last: Annotated[float, Field(gt=0.0, lt=1.0)] | None = Field(
        None,
        description="With `by: time`, the share of the newest rows that are not trained on, "
        "between 0 and 1; eval and test divide it in the ratio of their shares. null: 1 - train.",
    )
    eval_from: Moment | None = Field(
        None,
        description="With `by: time`, the first date or time of the eval split, in UTC if it names "
        "no zone; null: the shares decide.",
    )
    test_from: Moment | None = Field(
        None, description="With `by: time`, the first date or time of the test split, likewise."
    )
    unit: TimeUnit = Field(
        "s", description="With `by: time`, what numbers count since 1970 in UTC; text is ISO 8601."
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        total = self.train + self.eval + self.test
        if abs(total - 1.0) > 1e-6:
            raise ValueError(f"train + eval + test must be 1.0, found {total:g}")
        if self.train == 0.0 or self.eval == 0.0:
            raise ValueError("train and eval must be above 0")
        if problems := [*self._misplaced(), *self._of_values(), *self._of_cuts()]:
            raise ValueError("; ".join(problems))
        return self

    def problems_beside(self, has_test_source: bool) -> Iterator[str]:
        """Yield what does not fit a separate source of the test split, or the lack of one."""
        if has_test_source:
            if self.test_from is not None:
                yield "test_from: test_source is the test split; remove one of the two"
            if "test" in self.values.values():
                yield "values: test_source is the test split; map no value to test"
            return
        if self.test == 0.0:
            yield "test: must be above 0 where there is no test_source"
        if self.eval_from is not None and self.test_from is None:
            yield "test_from: expected a date or time, where there is no test_source"
        if self.values and "test" not in self.values.values():
            yield "values: expected a value for test, where there is no test_source"

    def _misplaced(self) -> Iterator[str]:
        """Yield the keys that the way of splitting does not have, or lacks."""
        if self.by != "hash" and self.column is None:
            yield f"column: expected the column that by: {self.by} looks at"
        places = {
            "column": ("column", "time"),
            "values": ("column",),
            "last": ("time",),
            "eval_from": ("time",),
            "test_from": ("time",),
        }
        for name, ways in places.items():
            if getattr(self, name) and self.by not in ways:
                yield f"{name}: only with by: {' or '.join(ways)}, found by: {self.by}"

    def _of_values(self) -> Iterator[str]:
        for split in ("train", "eval"):
            if self.values and split not in self.values.values():
                yield f"values: expected a value for {split}"

    def _of_cuts(self) -> Iterator[str]:
        if self.last is not None and self.eval_from is not None:
            yield "last: eval_from says where the newest rows begin; remove one of the two"
        if self.test_from is not None and self.eval_from is None:
            yield "eval_from: expected a date or time beside test_from"
        cuts = [microseconds(one) for one in (self.eval_from, self.test_from) if one is not None]
        if len(cuts) == 2 and cuts[0] >= cuts[1]:
            yield f"test_from: {self.test_from} is not after eval_from, {self.eval_from}"
