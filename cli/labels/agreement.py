"""What people say together about one head of a pipeline."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cli.labels.learning import Place, settled
from contract.prediction_log.json_values import from_json

if TYPE_CHECKING:
    from components.labels.consensus.settling import Settlement
    from contract.schema.data import FeatureConfig
    from contract.schema.pipeline import PipelineConfig
    from serving.labels.store.database import Database
    from serving.labels.store.records import Answered, Question, Topic


@dataclass(frozen=True)
class Agreement:
    """The answers about a head, their consensus, and the slices that each row is in."""

    number: int  # of the topic
    topic: "Topic"
    said: "Sequence[Answered]"
    found: "Settlement"
    slices: Mapping[Place, Sequence[str]]


def agreement(store: "Database", config: "PipelineConfig", head: str) -> Agreement:
    """Return what people say about a head; an empty one is the only head asked about.

    Raises:
        NotFoundError: If nobody was asked.
        NoAnswersError: If nobody has given a label.
    """
    from serving.labels.store.answering import answers
    from serving.labels.store.exchange import stored_questions
    from serving.labels.store.questions import topic_id

    number, topic = topic_id(store, config.name, head)
    said = [*answers(store, number)]
    found, slices = settled(said, topic.classes), dict[Place, Sequence[str]]()
    if features := {name: config.features[name] for name in config.evaluate.slices}:
        slices = slices_of(stored_questions(store, number), features)
    return Agreement(number, topic, said, found, slices)


def slices_of(
    questions: "Iterable[Question]", features: "Mapping[str, FeatureConfig]"
) -> dict[Place, Sequence[str]]:
    """Return the slices, `feature=value`, of each row that people were asked about."""
    places, values = list[Place](), {name: list[Any]() for name in features}
    for one in questions:
        places.append((one.request_id, str(one.row)))
        for name, column in values.items():
            column.append(from_json(one.inputs.get(name)))
    names = (
        [f"{name}={text}" for text in _texts(column, features[name])]
        for name, column in values.items()
    )
    return dict(zip(places, zip(*names, strict=True), strict=True))


def _texts(values: Sequence[Any], feature: "FeatureConfig") -> list[str]:
    """Return values as `transform` names their slices; a missing one is the feature's default."""
    import pyarrow as pa

    from contract.prediction_log.columns import input_type
    from contract.records.package import InputSpec

    default = "" if feature.default is None else str(feature.default)
    if feature.dtype == "string":
        texts = (one.decode(errors="replace") if isinstance(one, bytes) else one for one in values)
        return [default if one is None else one for one in texts]
    column = pa.array(values, input_type(InputSpec.of(feature))).cast(pa.string())
    found: list[str] = column.fill_null(default).to_pylist()
    return found
