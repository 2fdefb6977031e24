"""Columns of raw examples beside features and labels, and the types that features have."""

import numpy as np
import pyarrow as pa

from contract.model_io import EXAMPLE_ID

ID = EXAMPLE_ID
WEIGHT = "weight"

ARROW_TYPES = {"float32": pa.float32(), "int64": pa.int64(), "string": pa.binary()}
NUMPY_TYPES = {"float32": np.float32, "int64": np.int64, "string": object}
