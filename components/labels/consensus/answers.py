"""Who said what of which question, as arrays of numbers."""

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.intp]
Doubles = NDArray[np.float64]

Said = tuple[Hashable, str, str]  # question, labeller, class


@dataclass(frozen=True)
class Answers:
    """One answer per place: a question's, a labeller's and a class's number."""

    question: Ints
    labeller: Ints
    said: Ints
    questions: tuple[Hashable, ...]
    labellers: tuple[str, ...]
    classes: tuple[str, ...]

    @classmethod
    def of(cls, answers: Iterable[Said], classes: Sequence[str]) -> "Answers":
        """Number the questions and labellers in the order in which they come.

        Raises:
            KeyError: If an answer is none of the classes.
        """
        known = {name: number for number, name in enumerate(classes)}
        questions, labellers = dict[Hashable, int](), dict[str, int]()
        numbers = [
            (
                questions.setdefault(question, len(questions)),
                labellers.setdefault(labeller, len(labellers)),
                known[said],
            )
            for question, labeller, said in answers
        ]
        question, labeller, said = np.array(numbers, np.intp).reshape(-1, 3).T
        names = (tuple(questions), tuple(labellers), tuple(classes))
        return cls(question, labeller, said, *names)

    def votes(self) -> Doubles:
        """Return how often each class was said, shape ``[questions, classes]``."""
        cells = self.question * len(self.classes) + self.said
        size = len(self.questions) * len(self.classes)
        return np.bincount(cells, minlength=size).reshape(-1, len(self.classes)).astype(float)
