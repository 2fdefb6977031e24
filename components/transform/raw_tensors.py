"""How raw record batches become the tensors of `preprocessing_fn`; without Beam, for `check`."""

import pyarrow as pa
from tfx_bsl.coders.example_coder import ExamplesToRecordBatchDecoder
from tfx_bsl.tfxio.tensor_adapter import TensorAdapterConfig

from components.data.raw_examples import raw_schema
from contract.model_io import SPLIT_PREFIX, slice_key
from contract.schema.pipeline import PipelineConfig

SPLIT = SPLIT_PREFIX  # travels with a batch, and is taken off before it is written
BYTES_LISTS = pa.large_list(pa.large_binary())


def feature_tensors(config: PipelineConfig) -> TensorAdapterConfig:
    """Return how tf.Transform turns raw record batches into tensors: features only."""
    schema = raw_schema(config)
    decoder = ExamplesToRecordBatchDecoder(schema.SerializeToString())
    representations = schema.tensor_representation_group[""].tensor_representation
    fields = list(decoder.ArrowSchema())
    texts = [*(slice_key(name) for name in config.evaluate.slices), SPLIT]
    fields += [pa.field(name, BYTES_LISTS) for name in texts]
    return TensorAdapterConfig(
        pa.schema(fields), {name: representations[name] for name in config.features}
    )
