"""Each candidate made, tried in a separate process and, in int8, rescued if it costs much."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from components.data.raw_examples import Array
from components.models.saved_models import load
from components.optimize.chain import Data
from components.optimize.engines.choice import TENSORFLOW, Tried
from components.optimize.engines.comparison import Answers
from components.optimize.engines.core import Core
from components.optimize.engines.kinds import KINDS, in_words, make
from components.optimize.engines.tolerances import UNSEEN_ROWS_FACTOR
from components.optimize.engines.trials import Trial, write_rows
from components.optimize.graph.graphs import GraphModel
from components.optimize.judging.batches import answer
from components.optimize.judging.judgement import AnswerCost, AnswerJudge
from components.optimize.passes import quantize_nodes
from components.optimize.passes.registry import LossyPass
from components.optimize.sensitivity import Search, fewest
from contract.errors import SlipwayError
from contract.model_io import DEFAULT_SIGNATURE
from contract.storage import size_bytes


@dataclass(frozen=True)
class Models:
    """What candidates are made from and held to.

    Attributes:
        served: The SavedModel that TensorFlow would serve.
        exact: The same before its weights lost digits; often the same folder.
        data: Sample rows and evaluation rows of `serving_default`.
    """

    served: Path
    exact: Path
    data: Data

    @property
    def rows(self) -> Mapping[str, Array]:
        """Sample rows by input, `[rows, ...]`."""
        return self.data.samples[DEFAULT_SIGNATURE]

    def answers(self) -> Answers:
        """Return the exact model's answers to the rows."""
        return answer(load(self.exact).signature(DEFAULT_SIGNATURE), self.rows)


class Attempts:
    """Makes candidates of a model, lets each answer, and judges those of less than float32."""

    def __init__(self, models: Models, max_cost_points: float, workplace: Path) -> None:
        """Write the rows for trials.

        Args:
            models: What candidates are made from.
            max_cost_points: What int8 may cost before layers go back to float.
            workplace: An empty folder.
        """
        self._models, self._limit, self._workplace = models, max_cost_points, workplace
        self._rows, self._judged_rows = workplace / "rows.npz", workplace / "judged.npz"
        write_rows(models.rows, self._rows)
        write_rows(models.data.evaluation.inputs, self._judged_rows)
        self.folders: dict[str, Path] = {}

    def run(self, candidates: Sequence[str]) -> Iterator[Tried]:
        """Yield what was seen of TensorFlow, then of each candidate.

        All load at once, in the background, while the next one's files are made; each is measured
        when no other trial is running.
        """
        is_reduced = {name: KINDS[name].precision != "fp32" for name in candidates}
        is_reduced[TENSORFLOW] = self._models.served != self._models.exact
        self.folders[TENSORFLOW] = self._models.served
        with ExitStack() as stack:
            started = {TENSORFLOW: self._start(None, is_reduced[TENSORFLOW], stack)}
            for name in candidates:
                started[name] = self._start(self._made(name, name, ()), is_reduced[name], stack)
            for name, trial in started.items():
                tried = self._seen(Tried(name, is_reduced[name]), trial)
                yield self._rescued(tried, stack) if self._is_too_lossy(tried) else tried

    def _is_too_lossy(self, tried: Tried) -> bool:
        """Tell whether float layers may bring a candidate back."""
        is_int8 = tried.name != TENSORFLOW and KINDS[tried.name].precision == "int8"
        return is_int8 and not tried.failure and tried.cost_points > self._limit

    def _rescued(self, tried: Tried, stack: ExitStack) -> Tried:
        """Return the candidate with the fewest float layers that keeps to the limit, or as it was.

        Layers are ranked as `Search` ranks them, by how far 8 bits of one alone move the outputs.
        """

        whys = ["no choice of float layers keeps it within the limit"]

        def attempt(float_layers: Sequence[str]) -> Tried:
            made = self._made(tried.name, f"{tried.name}-{len(float_layers)}", float_layers)
            trial = self._start(made, True, stack)
            found = self._seen(replace(tried, float_layers=tuple(float_layers)), trial)
            whys.extend([found.failure] if found.failure else [])
            return found

        best = fewest(self._ranking, attempt, lambda one: one.cost_points <= self._limit)
        if best is None:
            self.folders[tried.name] = self._workplace / tried.name
            return replace(tried, no_rescue="; ".join(dict.fromkeys(whys)))
        self.folders[tried.name] = self._workplace / f"{tried.name}-{len(best.float_layers)}"
        return best

    @cached_property
    def _core(self) -> Core | str:
        """The core of the exact model, or why there is none."""
        parts = self._workplace / "parts"
        parts.mkdir()
        try:
            return Core.of(self._models.exact, self._models.rows, parts)
        except Exception as error:  # noqa: BLE001 (whatever the graph does, TensorFlow runs it)
            return in_words(error)

    @cached_property
    def _judge(self) -> AnswerJudge:
        return AnswerJudge(
            load(self._models.exact).signature(DEFAULT_SIGNATURE), self._models.data.evaluation
        )

    @cached_property
    def _ranking(self) -> list[str]:
        """The layers of the exact model, the most sensitive first."""
        model = GraphModel.lift(self._models.exact)
        layers = quantize_nodes.quantizable(model)
        lossy = LossyPass(layers, lambda kept: quantize_nodes.apply(model, kept))
        inputs = self._models.data.evaluation.inputs
        return Search(lossy, DEFAULT_SIGNATURE, inputs, self._judge, self._limit).ranking(model)

    def _made(self, name: str, place: str, float_layers: Collection[str]) -> Path | str:
        """Return the folder with a candidate's files, or why there is none."""
        if isinstance(self._core, str):
            return self._core
        folder = self.folders[name] = self._workplace / place
        folder.mkdir()
        try:
            make(self._core, KINDS[name], folder, float_layers)
        except Exception as error:  # noqa: BLE001 (converters raise what they like)
            return in_words(error)
        return folder

    def _start(self, engine: Path | str | None, is_judged: bool, stack: ExitStack) -> Trial | str:
        """Start a trial of a folder, or of TensorFlow (None); hand on why there is no folder."""
        if isinstance(engine, str):
            return engine
        judged_rows = self._judged_rows if is_judged else None
        trial = Trial.start(self._models.served, engine, self._rows, self._workplace, judged_rows)
        stack.callback(trial.stop)
        return trial

    def _seen(self, of: Tried, trial: Trial | str) -> Tried:
        if isinstance(trial, str):
            return replace(of, failure=trial)
        try:
            seen = trial.measure()
            judgement = self._judged(seen.judged) if seen.judged else None
        except (SlipwayError, ValueError) as error:
            return replace(of, failure=in_words(error))
        return replace(
            of,
            size_bytes=size_bytes(self.folders[of.name]),
            figures=seen.figures,
            answers=seen.answers,
            machine=seen.machine,
            judgement=judgement,
        )

    def _judged(self, found: Answers) -> AnswerCost:
        """Return what a candidate costs, and how far the budget lets its differences grow."""
        judgement = self._judge.judge_answers(found)
        reach = self._judge.reach(found, self._limit, UNSEEN_ROWS_FACTOR)
        return replace(judgement, reach=reach)
