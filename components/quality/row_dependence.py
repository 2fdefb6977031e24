"""What an answer depends on beside its row: the cause, its size, and what to do about it."""

from dataclasses import dataclass
from enum import Enum


class Cause(Enum):
    """What changes the answer to a row."""

    CALLS = "from call to call"
    BATCH_SIZE = "with the number of rows"
    PADDING = "with the padding of a feature"
    FEATURE = "with one feature of the rows beside it"
    ORDER = "with the row's place in the batch"
    NEIGHBOURS = "with the rows beside it"


@dataclass(frozen=True)
class Dependence:
    """What changes an answer, and by how much; `feature` is empty where no single one does."""

    cause: Cause
    output: str
    difference: float
    feature: str = ""
    found: str = ""


def in_words(dependence: Dependence, of: str = "") -> str:
    """Return a sentence with the cause and what to do about it.

    Args:
        of: What the answer is one of, as "head 'price'"; empty: the output's name.
    """
    whose = of or f"output '{dependence.output}'"
    said, size = f"the answer of {whose} to a row changes", f"{dependence.difference:.2g}"
    match dependence.cause:
        case Cause.CALLS:
            return (
                f"two calls on the same rows differ: the answer of {whose} changes by {size}. "
                "Something random or counted is in use outside training; keep random layers "
                "behind 'training', and state in weights"
            )
        case Cause.BATCH_SIZE:
            return (
                f"{dependence.found}: keep the axis of rows, also where there is one row only "
                "(a squeeze without an axis, or a Reshape that counts rows, loses it)"
            )
        case Cause.PADDING:
            return (
                f"{said} by {size} with the padding of '{dependence.feature}', that is with longer "
                "rows beside it: mask it, as with Embedding(..., mask_zero=True) and ids that "
                "begin at 1, or multiply by where it is not padding before pooling"
            )
        case Cause.FEATURE:
            return (
                f"{said} by {size} with '{dependence.feature}' of the rows beside it: if its "
                "values are split into lists, mask their padding; else compute over the axes of "
                "one row, never over the batch"
            )
    where = "its place in the batch" if dependence.cause is Cause.ORDER else "the rows beside it"
    return (
        f"{said} by {size} with {where}: something is computed over the batch (a "
        "BatchNormalization with training=True, a softmax, sort, mean or sum over axis 0). "
        "Compute over the axes of one row, and let Keras pass 'training' on"
    )
