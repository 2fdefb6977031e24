"""Does the answer to a row depend on that row alone? Tried on real rows, with the cause named.

The rows are answered together (the short ones beside the long ones), twice, in another order, and
each alone. What is asked is any callable: a Keras model, a signature of a SavedModel, a server.
No list is longer than the longest of the rows: a model may have room for no more.

A difference (measured as in `answer_distances`) above the tolerance counts only if it is also
`_TIMES_ROUNDING` times what other roundings of float features and weights do to the same answers.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from components.data.raw_examples import Array
from components.quality.answer_distances import distances, rounded_otherwise, usual_size
from components.quality.row_dependence import Cause, Dependence
from contract.schema.pipeline import PipelineConfig

# Float32 sums in another order differ by some 1e-6 of the largest number; docs/figures.md says by
# how much in the shipped pipelines. What neighbours or padding do is mostly above 1e-3.
TOLERANCE = 1e-4
TOLERANCE_16_BITS = 2e-2  # of what computes in bfloat16, whose numbers are 4e-3 apart, or float16
MOST_ROWS = 32

_TIMES_ROUNDING = 16.0
_FEWEST_ALONE = 4  # rows, however long one takes
_MATES = 6

Row = Mapping[str, Any]  # one value of each feature, without the axis of rows
Ask = Callable[[Sequence[Row]], Mapping[str, Array]]  # by output, [rows, ...]


@dataclass(frozen=True)
class Subject:
    """What is asked, and which of its features hold lists, which a batch pads to the longest.

    A list is a Python list or an array whose first axis is the values'. While `rounded_otherwise`
    is open, numbers of what is asked itself (weights) have other last digits, if it knows them.
    """

    ask: Ask
    lists: frozenset[str] = frozenset()
    rounded_otherwise: Callable[[], AbstractContextManager[None]] = nullcontext


@dataclass(frozen=True)
class Limits:
    """How far answers may differ, and how long single rows are asked for, in seconds."""

    tolerance: float = TOLERANCE
    seconds: float = 0.5
    clock: Callable[[], float] = field(default=time.monotonic, compare=False)


def row_tolerance(config: PipelineConfig) -> float:
    """Return how far the answers of a pipeline's served model to the same row may be apart.

    As far as its answers may be from the trained model's, at least.
    """
    is_exact = config.train.precision == "float32"
    return max(TOLERANCE if is_exact else TOLERANCE_16_BITS, config.package.skew_tolerance)


def find_dependence(
    subject: Subject, rows: Sequence[Row], limits: Limits | None = None
) -> Dependence | None:
    """Return what the answers to some rows depend on beside the row itself; None: on nothing.

    Args:
        subject: What is asked. An error of its own goes through, except when it answers rows
            together and refuses one alone.
        rows: At least one; a few dozen, some of them short and some long, see `telling_rows`.
        limits: The tolerance, and how long to ask for rows alone (four are asked in any case).
    """
    trial = _Trial(subject, rows, limits or Limits())
    return trial.result()


def telling_rows(
    lengths: Mapping[str, Sequence[int]], count: int, most: int = MOST_ROWS
) -> list[int]:
    """Return which of `count` rows to ask for: the first ones, the shortest and longest of lists.

    Args:
        lengths: By feature that holds lists, how many values each row has.
    """
    chosen = [place(list(each)) for each in lengths.values() for place in (_shortest, _longest)]
    return sorted(list(dict.fromkeys([*chosen, *range(count)]))[:most])


# --- inside -------------------------------------------------------------------------------------


class _Trial:
    """One subject asked for one set of rows."""

    def __init__(self, subject: Subject, rows: Sequence[Row], limits: Limits) -> None:
        self._subject, self._ask, self._limits = subject, subject.ask, limits
        self._lists = sorted(subject.lists)
        self._rows = [*rows, *self._cut(rows)]
        self._usual: dict[str, float] = {}

    def result(self) -> Dependence | None:
        """Ask, and look for the cause if answers differ."""
        batch = self._rows
        together = self._answers(batch)
        if isinstance(together, Dependence):
            return together
        self._usual = {name: usual_size(answers) for name, answers in together.items()}
        again = self._answers(batch)
        if isinstance(again, Dependence):
            return again
        if found := self._apart(together, again, Cause.CALLS):
            return found
        return self._with_others(together)

    def _with_others(self, together: dict[str, Array]) -> Dependence | None:
        """Hold each row among others to the row in another order, and alone."""
        turned = self._answers(self._rows[::-1])
        if isinstance(turned, Dependence):
            return turned
        turned = {name: answers[::-1] for name, answers in turned.items()}
        worst = self._apart(together, turned, Cause.ORDER)
        place = self._worst_row(together, turned)
        for index in self._in_turn():
            alone = self._alone(self._rows[index])
            if isinstance(alone, Dependence):
                return alone
            one = {name: answers[index : index + 1] for name, answers in together.items()}
            found = self._apart(one, alone, Cause.NEIGHBOURS)
            if found and (worst is None or found.difference > worst.difference):
                worst, place = found, index
        if worst is None or self._is_rounding(together, worst):
            return None
        try:
            return self._cause(place) or worst
        except Exception:  # noqa: BLE001  # rows made of several may be none that it takes
            return worst

    def _in_turn(self) -> Iterator[int]:
        """Yield the rows to be asked for alone, while time lasts: one of each length first.

        The shortest and the longest lead. Alone they may have nothing to be padded, so the others
        follow before a second row of any length.
        """
        ends = self._limits.clock() + self._limits.seconds
        by_length = sorted(range(len(self._rows)), key=lambda row: self._length(self._rows[row]))
        first = {self._length(self._rows[index]): index for index in reversed(by_length)}
        one_each = sorted(first.values(), key=by_length.index)
        order = dict.fromkeys([*_from_both_ends(one_each), *_from_both_ends(by_length)])
        for number, index in enumerate(order):
            if number >= _FEWEST_ALONE and self._limits.clock() > ends:
                return
            yield index

    # --- the cause ------------------------------------------------------------------------------

    def _cause(self, index: int) -> Dependence | None:
        """Return what of the rows beside it changes the answer to one row."""
        row = self._rows[index]
        alone = self._alone(row)
        if isinstance(alone, Dependence):
            return alone
        if found := self._by_values(row, alone, self._mates(index)):
            return found
        padded = [self._beside_longer(row, alone, name) for name in self._lists]
        if found := _largest(padded):
            return found
        others = sorted(row.keys() - set(self._lists))
        return _largest([self._beside_other(row, alone, name) for name in others])

    def _by_values(self, row: Row, alone: dict[str, Array], mates: list[Row]) -> Dependence | None:
        """Ask for a row among others that are as long as it is: nothing is padded then."""
        if not mates:
            return None
        answers = [self._of(row, [], mates), self._of(row, mates, [])]
        answers.append(self._of(row, mates[:1], mates[1:]))
        order = [self._apart(answers[0], other, Cause.ORDER) for other in answers[1:]]
        beside = [self._apart(alone, other, Cause.NEIGHBOURS) for other in answers]
        return _largest(order) or _largest(beside)

    def _of(self, row: Row, before: list[Row], after: list[Row]) -> dict[str, Array]:
        answers = self._ask([*before, row, *after])
        place = len(before)
        return {name: np.asarray(one)[place : place + 1] for name, one in answers.items()}

    def _mates(self, index: int) -> list[Row]:
        """Return other rows with this one's text, and lists of as many values as its own."""
        row, others = self._rows[index], self._rows[:index] + self._rows[index + 1 :]
        mates: list[Row] = []
        for other in others[:_MATES]:
            lists = {name: self._as_long(row[name], other[name]) for name in self._lists}
            kept = {n: v for n, v in row.items() if n not in self._lists and _is_text(v)}
            mates.append({**other, **kept, **lists})
        return mates

    def _as_long(self, of: Any, values: Any) -> Any:
        """Return some values, repeated or cut to the length of others; these, if there are none."""
        wanted, there = len(of), len(values)
        if not there or np.shape(of)[1:] != np.shape(values)[1:]:
            return of
        return values[:wanted] if there >= wanted else _repeated(values, wanted)

    def _beside_longer(self, row: Row, alone: dict[str, Array], name: str) -> Dependence | None:
        """Ask for a row beside itself with the longest list there is in one feature."""
        longest = max((one[name] for one in self._rows), key=len)
        beside = self._of(row, [], [{**row, name: longest}])
        return self._apart(alone, beside, Cause.PADDING, name)

    def _beside_other(self, row: Row, alone: dict[str, Array], name: str) -> Dependence | None:
        """Ask for a row beside itself with another value of one feature: of text, the longest."""
        values = [one[name] for one in self._rows]
        if _is_text(row[name]):
            other = max(values, key=len)
        else:
            other = next((one for one in values if not np.array_equal(one, row[name])), row[name])
        beside = self._of(row, [], [{**row, name: other}])
        return self._apart(alone, beside, Cause.FEATURE, name)

    # --- rows -----------------------------------------------------------------------------------

    def _length(self, row: Row) -> int:
        return sum(len(row[name]) for name in self._lists)

    def _cut(self, rows: Sequence[Row]) -> list[Row]:
        """Return copies of some rows with half of their lists' values, where all are as long.

        Without them no row would be padded. None, if the model takes no other length.
        """
        equal = [n for n in self._lists if len({len(row[n]) for row in rows}) == 1]
        names = [name for name in equal if len(rows[0][name]) > 1]
        if not names:
            return []
        cut: list[Row] = [
            {**row, **{n: row[n][: -(-len(row[n]) // 2)] for n in names}} for row in rows[:2]
        ]
        # A model may take lists of one length only; that is not a fault found in these rows.
        is_taken = all(not isinstance(self._alone(row), Dependence) for row in cut)
        return cut if is_taken else []

    # --- answers --------------------------------------------------------------------------------

    def _answers(self, batch: Sequence[Row]) -> "dict[str, Array] | Dependence":
        answers = {name: np.asarray(one) for name, one in self._ask(batch).items()}
        for name, one in answers.items():
            if one.shape[:1] != (len(batch),):
                found = f"output '{name}' has shape {list(one.shape)} for {len(batch)} row(s)"
                return Dependence(Cause.BATCH_SIZE, name, float("inf"), found=found)
        return answers

    def _alone(self, row: Row) -> "dict[str, Array] | Dependence":
        try:
            return self._answers([row])
        except Exception as error:  # noqa: BLE001  # whatever it is, together it was none
            words = (str(error).splitlines() or [""])[0][:200]
            found = f"rows are answered together, but one alone fails: {words}"
            return Dependence(Cause.BATCH_SIZE, "", float("inf"), found=found)

    def _apart(
        self, one: Mapping[str, Array], other: Mapping[str, Array], cause: Cause, feature: str = ""
    ) -> Dependence | None:
        """Return the largest difference above the tolerance, as what it would be caused by."""
        worst: Dependence | None = None
        for name in one:
            apart = float(np.max(self._distances(name, one, other), initial=0.0))
            if apart > max(self._limits.tolerance, worst.difference if worst else 0.0):
                worst = Dependence(cause, name, apart, feature)
        return worst

    def _worst_row(self, one: Mapping[str, Array], other: Mapping[str, Array]) -> int:
        apart = [self._distances(name, one, other) for name in one]
        return int(np.argmax(np.max(apart, axis=0)))

    def _distances(self, name: str, one: Mapping[str, Array], other: Mapping[str, Array]) -> Array:
        return distances(one[name], other[name], self._usual.get(name, 0.0))

    def _is_rounding(self, together: dict[str, Array], worst: Dependence) -> bool:
        """Tell whether other roundings of features and weights do about as much to the answers."""
        random = np.random.default_rng(0)
        rows = [
            {n: rounded_otherwise(value, random) for n, value in row.items()} for row in self._rows
        ]
        with self._subject.rounded_otherwise():
            shaken = self._answers(rows)
        if isinstance(shaken, Dependence):
            return False
        name = worst.output
        noise = float(np.max(self._distances(name, together, shaken), initial=0.0))
        return worst.difference <= _TIMES_ROUNDING * noise


def _largest(found: Sequence[Dependence | None]) -> Dependence | None:
    there = [one for one in found if one is not None]
    return max(there, key=lambda one: one.difference) if there else None


def _from_both_ends(items: Sequence[int]) -> list[int]:
    """Return the first, the last, the second, the last but one, ...; each of them twice."""
    return [item for pair in zip(items, items[::-1], strict=True) for item in pair]


def _shortest(lengths: list[int]) -> int:
    return int(np.argmin(lengths))


def _longest(lengths: list[int]) -> int:
    return int(np.argmax(lengths))


def _repeated(values: Any, count: int) -> Any:
    """Return values, over and over, `count` of them."""
    times = -(-count // len(values))
    if isinstance(values, np.ndarray):
        return np.concatenate([values] * times)[:count]
    return (list(values) * times)[:count]


def _is_text(value: Any) -> bool:
    return isinstance(value, str | bytes)
