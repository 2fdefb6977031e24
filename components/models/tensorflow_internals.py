"""What we use of TensorFlow's private modules, which may change with any version: all of it.

Lifting signatures, freezing, Grappler and the ahead-of-time compiler have no public form. A test
names the version that these names were read in; who changes the version looks at each of them.
"""

from tensorflow.python.checkpoint.trackable_view import TrackableView
from tensorflow.python.distribute.one_device_strategy import OneDeviceExtended
from tensorflow.python.eager import context
from tensorflow.python.framework import op_def_registry, ops
from tensorflow.python.framework.convert_to_constants import (
    convert_variables_to_constants_v2,
    disable_lower_using_switch_merge,
)
from tensorflow.python.grappler import tf_optimizer
from tensorflow.python.trackable.asset import Asset
from tensorflow.python.trackable.resource import CapturableResource
from tensorflow.python.training.saver import export_meta_graph

SAVED_MODEL_CLI = "tensorflow.python.tools.saved_model_cli"  # a program: `python -m`

__all__ = [
    "SAVED_MODEL_CLI",
    "Asset",
    "CapturableResource",
    "OneDeviceExtended",
    "TrackableView",
    "context",
    "convert_variables_to_constants_v2",
    "disable_lower_using_switch_merge",
    "export_meta_graph",
    "op_def_registry",
    "ops",
    "tf_optimizer",
]
