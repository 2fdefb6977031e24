"""Label Studio's JSON: our questions and answers as its tasks, and its answers as ours.

Source: Label Studio's documentation, "Import pre-annotations" and "Label Studio JSON format of
annotated tasks" (labelstud.io/guide): `data`, `predictions` and `annotations`, each with `result`.
"""

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from contract.errors import DataError

if TYPE_CHECKING:
    from serving.labels.store.records import Answered, Question

_FROM, _TO = "label", "item"  # names that a labelling interface gives to its tags

Said = tuple[str, int, str, str]  # request, row, labeller, label


def as_tasks(
    questions: "Iterable[Question]", answers: "Iterable[Answered]"
) -> list[dict[str, Any]]:
    """Return a task for each question, with the model's best guess and the people's answers.

    "Can't tell" is an annotation without a result.
    """
    said = defaultdict(list)
    for answer in answers:
        result = [_choice(answer.label)] if answer.label is not None else []
        said[answer.question].append({"completed_by": answer.labeller, "result": result})
    return [
        {
            "id": one.question,
            "data": {**one.inputs, "request_id": one.request_id, "row": one.row},
            "predictions": [
                {"model_version": str(one.version), "score": score, "result": [_choice(label)]}
                for label, score in one.guesses[:1]
            ],
            "annotations": said[one.question],
        }
        for one in questions
    ]


def read_tasks(path: Path) -> Iterator[Said]:
    """Yield the answers in a file that Label Studio has exported as JSON.

    Raises:
        DataError: If it is none, or if a task does not say of which prediction it is.
    """
    try:
        tasks = json.loads(path.read_text(encoding="utf-8"))
        for number, task in enumerate(tasks):
            data = task["data"]
            if "request_id" not in data or "row" not in data:
                raise DataError(
                    f"{path}: task {number}: 'data' has no request_id and row; import tasks that "
                    "'slipway labels export --format label-studio' has written"
                )
            for annotation in task.get("annotations", ()):
                if not annotation.get("was_cancelled"):
                    for label in _labels(annotation["result"]):
                        who = _person(annotation.get("completed_by"))
                        yield str(data["request_id"]), int(data["row"]), who, label
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise DataError(
            f"{path}: expected a list of tasks as Label Studio exports them (JSON): "
            f"{type(error).__name__}: {error}"
        ) from error


def _choice(label: str) -> dict[str, Any]:
    value = {"choices": [label]}
    return {"from_name": _FROM, "to_name": _TO, "type": "choices", "value": value}


def _labels(results: Iterable[dict[str, Any]]) -> list[str]:
    """Return the one choice that was made; an annotation with several or none is no answer."""
    found = [
        str(choice)
        for result in results
        if result.get("type") == "choices"
        for choice in result["value"]["choices"]
    ]
    return found if len(found) == 1 else []


def _person(completed_by: Any) -> str:
    """Return who annotated: a number, or an object with an address."""
    if isinstance(completed_by, dict):
        completed_by = completed_by.get("email") or completed_by.get("id")
    return f"{completed_by}" if completed_by else "label-studio"
