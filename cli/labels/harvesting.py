"""From rows that were chosen to questions: with their inputs, as a page and JSON can hold them."""

from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from contract.errors import UserError
from contract.prediction_log.json_values import as_json, from_json

if TYPE_CHECKING:
    from components.labels.choosing.questions import Question
    from contract.layout import PipelineLayout
    from contract.schema.pipeline import PipelineConfig
    from serving.labels.store.database import Database
    from serving.labels.store.records import NewQuestion, Topic
    from serving.labels.store.records import Question as StoredQuestion


def topic_of(config: "PipelineConfig", head: str) -> "Topic":
    """Return what the questions about a head are about."""
    from serving.labels.store.records import Topic

    features = {
        name: {"dtype": feature.dtype, "shape": [*feature.shape]}
        for name, feature in config.features.items()
    }
    return Topic(config.name, head, config.heads[head].classes, features)


def with_inputs(
    layout: "PipelineLayout", questions: "Iterable[Question]"
) -> "Iterator[NewQuestion]":
    """Yield the questions whose inputs the prediction log still has."""
    from components.labels.predicted_rows import logged_inputs
    from serving.labels.store.records import NewQuestion

    by_place = {(one.request_id, str(one.row)): one for one in questions}
    for place, inputs in logged_inputs(layout, {*by_place}).items():
        one = by_place[place]
        yield NewQuestion(
            request_id=one.request_id,
            row=one.row,
            inputs=as_json(inputs),
            guesses=one.guesses,
            version=one.version,
            probability=one.probability,
            audit_probability=one.audit_probability,
            is_audit=one.is_audit,
        )


def asked_before(
    store: "Database", config: "PipelineConfig", head: str, batches: int
) -> Iterator[dict[str, Any]]:
    """Yield the inputs of the first batches of questions, as the prediction log had them."""
    from serving.labels.store.exchange import asked_inputs

    for inputs in asked_inputs(store, config.name, head, batches):
        yield {name: from_json(value) for name, value in inputs.items()}


def gold_questions(
    layout: "PipelineLayout", topic: "Topic", known: Mapping[tuple[str, str], str]
) -> "Iterator[NewQuestion]":
    """Yield questions whose answer is known, by request and row; those that the log still has.

    They have the model's guesses as all others do, so that nobody can tell them apart.
    """
    from components.labels.choosing.candidates import logged_scores
    from components.labels.choosing.questions import guesses_of
    from components.labels.predicted_rows import logged_inputs
    from serving.labels.store.records import NewQuestion

    scores = logged_scores(layout, topic.head, len(topic.classes), known)
    for place, inputs in logged_inputs(layout, {*scores}).items():
        guesses = guesses_of(scores[place], topic.classes)
        request_id, row = place
        yield NewQuestion(request_id, int(row), as_json(inputs), guesses, gold=known[place])


def kept_inputs(
    questions: "Iterable[StoredQuestion]", wanted: Collection[tuple[str, str]]
) -> dict[tuple[str, str], dict[str, Any]]:
    """Return the inputs of some rows, by request and row, as the prediction log had them."""
    places = (((one.request_id, str(one.row)), one.inputs) for one in questions)
    return {
        place: {name: from_json(value) for name, value in inputs.items()}
        for place, inputs in places
        if place in wanted
    }


def check_learnable(config: "PipelineConfig", head: str) -> None:
    """Refuse a pipeline whose rows need more than their inputs and the label of one head.

    Raises:
        UserError: If it has a label of another head, or a key of the split that is no input.
    """
    from components.data.raw_rows import required_columns

    known = {*config.features, config.label_column(head), config.weight}
    if unknown := [name for name in required_columns(config) if name not in known]:
        raise UserError(
            f"{config.name}: labels of head '{head}' make no rows to learn from: a row also needs "
            f"{', '.join(unknown)}, which the prediction log does not have; ask only about rows "
            "that measure the model ('slipway labels harvest --audit-ratio 1')"
        )
