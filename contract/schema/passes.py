"""The typed form of `optimize.passes`: each pass by name, with its own arguments."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from contract.errors import did_you_mean

CalibrationMethod = Literal["kl", "minmax"]
PlainName = Literal[
    "freeze_graph",
    "strip_unused_nodes",
    "remove_nodes",
    "fold_constants",
    "fold_batch_norms",
    "fold_old_batch_norms",
    "merge_duplicate_nodes",
    "grappler",
    "sort_by_execution_order",
    "fuse",
    "quantize_nodes",
]


class _Arguments(BaseModel):
    """Base of these sections: frozen, strict, unknown keys refused."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")


class PlainPass(_Arguments):
    """A pass without arguments."""

    name: PlainName = Field(description="Name of the pass.")


class RoundWeights(_Arguments):
    """Few distinct values in each weight tensor, so that the file compresses well."""

    name: Literal["round_weights"] = Field(description="Name of the pass.")
    num_steps: Annotated[int, Field(ge=2, le=65536)] = Field(
        256,
        description="Number of distinct values between the smallest and the largest weight of a "
        "tensor, from 2 to 65536.",
    )
    minimum_size: Annotated[int, Field(ge=1)] = Field(
        15, description="Smallest tensor that is rounded, in weights, at least 1."
    )


class QuantizeWeights(_Arguments):
    """Weights in fewer bits; int8 with one scale for each output channel."""

    name: Literal["quantize_weights"] = Field(description="Name of the pass.")
    dtype: Literal["int8", "float16"] = Field(
        "int8", description="Type in which the weights are stored."
    )
    minimum_size: Annotated[int, Field(ge=1)] = Field(
        1024, description="Smallest tensor that is quantized, in weights, at least 1."
    )


class FreezeRequantizationRanges(_Arguments):
    """Constant ranges, from calibration, in place of those that `quantize_nodes` computes."""

    name: Literal["freeze_requantization_ranges"] = Field(description="Name of the pass.")
    method: CalibrationMethod = Field(
        "kl",
        description="How a range is chosen. 'kl': least Kullback-Leibler divergence; 'minmax': the "
        "smallest and the largest value seen.",
    )


Pass = Annotated[
    PlainPass | RoundWeights | QuantizeWeights | FreezeRequantizationRanges,
    Field(discriminator="name"),
]

DEFAULT_PASSES = (
    "freeze_graph",
    "strip_unused_nodes",
    "fold_constants",
    "remove_nodes",
    "fold_old_batch_norms",
    "fold_batch_norms",
    "merge_duplicate_nodes",
    "grappler",
    "sort_by_execution_order",
    "quantize_weights",
    "quantize_nodes",
    "freeze_requantization_ranges",
)

LOSSY_PASSES = frozenset(
    {"round_weights", "quantize_weights", "quantize_nodes", "freeze_requantization_ranges"}
)


def pass_names() -> tuple[str, ...]:
    """Return the names of all passes."""
    sections = get_args(get_args(Pass)[0])
    return tuple(name for one in sections for name in get_args(one.model_fields["name"].annotation))


def _written_out(entry: Any) -> Any:
    """Turn `fuse` and `{round_weights: {num_steps: 64}}` into the form with the key `name`."""
    if isinstance(entry, str):
        entry = {"name": entry}
    if isinstance(entry, Mapping) and len(entry) == 1 and "name" not in entry:
        name, arguments = next(iter(entry.items()))
        if arguments is None or isinstance(arguments, Mapping):
            entry = {"name": name, **(arguments or {})}
    if isinstance(entry, Mapping) and (name := entry.get("name")) not in pass_names():
        known = pass_names()
        raise ValueError(
            f"unknown pass{did_you_mean(str(name), known)} (known: {', '.join(known)})"
        )
    return entry


def _describe_short_forms(schema: dict[str, Any]) -> None:
    """Let editors complete `name` and `{name: arguments}`, which is how passes are written."""
    sections = [one for one in get_args(get_args(Pass)[0]) if one is not PlainPass]
    with_arguments = {}
    for section in sections:
        properties = section.model_json_schema()["properties"]
        name = properties.pop("name")["const"]
        with_arguments[name] = {
            "type": "object",
            "description": section.__doc__,
            "properties": properties,
            "additionalProperties": False,
        }
    short = {
        "type": "object",
        "properties": with_arguments,
        "additionalProperties": False,
        "minProperties": 1,
        "maxProperties": 1,
    }
    schema["items"] = {"anyOf": [{"enum": list(pass_names())}, short, schema["items"]]}
    schema["default"] = list(DEFAULT_PASSES)


Passes = Annotated[
    tuple[Annotated[Pass, BeforeValidator(_written_out)], ...],
    Field(
        description="The passes in order; each a name, or {name: {argument: value}}.",
        json_schema_extra=_describe_short_forms,
    ),
]
