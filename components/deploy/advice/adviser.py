"""Answers questions about rollouts, one after another, and keeps their cases on storage."""

import hashlib
import threading
from pathlib import Path

from components.deploy.advice.case import Case, begun, heard, is_another, on_next_rung
from contract.errors import NotFoundError
from contract.records.advice import Advice, Question
from contract.schema.serving import DeployConfig


class Adviser:
    """The judge of many rollouts. Its folder holds a file for each, so that it may restart."""

    def __init__(self, folder: Path, config: DeployConfig) -> None:
        self._folder, self._config = folder, config
        self._lock = threading.Lock()

    def ask(self, question: Question, is_raise: bool = False) -> Advice:
        """Return what the judge says now.

        Args:
            is_raise: The asker raises the weight at once if the decision is `pass`: the next rung
                begins with this answer.
        """
        with self._lock:
            case, advice = heard(self._case(question), question, self._config)
            if is_raise and advice.decision == "pass":
                case = on_next_rung(case, question.step, self._config)
            case.write(self._path(question.rollout))
            return advice

    def begin(self, question: Question) -> None:
        """Forget what was known of a rollout: it begins now."""
        with self._lock:
            begun(question, self._config).write(self._path(question.rollout))

    def _case(self, question: Question) -> Case:
        try:
            case = Case.read(self._path(question.rollout))
        except NotFoundError:
            return begun(question, self._config)
        return begun(question, self._config) if is_another(case, question, self._config) else case

    def _path(self, rollout: str) -> Path:
        return self._folder / f"{hashlib.sha256(rollout.encode()).hexdigest()[:32]}.json"
