"""How training is spread over devices and processes: one `tf.distribute.Strategy` each.

Models, layers and users' hooks see TensorFlow's own interface whatever the strategy is:
`num_replicas_in_sync`, and `all_reduce` of the replica context.
"""

import logging
import socket
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

# TensorFlow exports strategies, not what they are made of.
from components.models.tensorflow_internals import OneDeviceExtended
from components.train.peers.collectives import Collective
from contract.schema.training import TrainConfig

BUCKET_BYTES = 8 << 20  # a sum that begins while the next bucket is still being computed

log = logging.getLogger("slipway")


class PeerStrategy(tf.distribute.Strategy):  # type: ignore[misc]
    """One replica in each of several processes; reductions go through a `Collective`."""

    def __init__(self, collective: Collective, device: str) -> None:
        super().__init__(_PeerExtended(self, collective, device))
        self.collective = collective


class _PeerExtended(OneDeviceExtended):  # type: ignore[misc]
    """Sums over processes where a strategy of one device would hand its values through."""

    def __init__(self, strategy: PeerStrategy, collective: Collective, device: str) -> None:
        super().__init__(strategy, device)
        self._collective = collective

    @property
    def _num_replicas_in_sync(self) -> int:
        return self._collective.size

    def _use_merge_call(self) -> bool:
        return False  # let `all_reduce` come here, as it does in MultiWorkerMirroredStrategy

    def _replica_ctx_all_reduce(
        self, reduce_op: Any, value: Any, options: Any = None
    ) -> list[tf.Tensor]:
        del options
        tensors = [tf.convert_to_tensor(one) for one in tf.nest.flatten(value)]
        summed = _summed(self._collective, tensors)
        if reduce_op == tf.distribute.ReduceOp.MEAN:
            summed = [one / tf.cast(self._collective.size, one.dtype) for one in summed]
        return tf.nest.pack_sequence_as(value, summed)  # type: ignore[no-any-return]

    def _reduce_to(self, reduce_op: Any, value: Any, destinations: Any, options: Any) -> Any:
        del destinations
        return self._replica_ctx_all_reduce(reduce_op, value, options)


def open_strategy(
    config: TrainConfig, collective: Collective, hosts: Sequence[str] = ()
) -> tf.distribute.Strategy:
    """Return the strategy of `train.strategy`; models and optimizers are made in its scope.

    A process that computes a whole step by itself (`single`, a worker of `parameter_server`) gets
    TensorFlow's default strategy: one replica, on the first accelerator or the CPU.

    Args:
        config: Which strategy, and how it reduces.
        collective: What joins this process with those that make steps with it.
        hosts: Where these run, by rank; only TensorFlow's own collectives need it.
    """
    if config.strategy == "mirrored":
        strategy = tf.distribute.MirroredStrategy(_devices())
    elif collective.size == 1:
        strategy = tf.distribute.get_strategy()
    elif config.strategy == "multi_worker" and (all_reduce := _all_reduce(config)) != "ring":
        strategy = _tensorflows(all_reduce, collective, hosts)
    else:
        own, *idle = _devices()
        if idle:
            log.warning(
                "train: this process drives %s alone; %d more stay idle: start a process for each "
                "(CUDA_VISIBLE_DEVICES), or use train.all_reduce: nccl",
                *(own, len(idle)),
            )
        strategy = PeerStrategy(collective, own)
    log.info("train: strategy %s, %d replica(s)", config.strategy, strategy.num_replicas_in_sync)
    return strategy


def batches_of(strategy: tf.distribute.Strategy, batches: tf.data.Dataset, rows: int) -> Any:
    """Return an iterator over one process's batches, of `rows` each, divided among its devices."""
    if isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy):
        devices = len(strategy.extended.worker_devices)
        own = batches if devices == 1 else batches.rebatch(rows // devices)
        return iter(strategy.distribute_datasets_from_function(lambda _: own))
    if isinstance(strategy, tf.distribute.MirroredStrategy):
        return iter(strategy.experimental_distribute_dataset(batches))
    return iter(batches)


def _devices() -> list[str]:
    found = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    return [device.name for device in found]


def _all_reduce(config: TrainConfig) -> str:
    """Return what `auto` is: our ring drives one device a process, NCCL several GPUs."""
    if config.all_reduce != "auto":
        return config.all_reduce
    return "nccl" if len(tf.config.list_physical_devices("GPU")) > 1 else "ring"


def _tensorflows(
    all_reduce: str, collective: Collective, hosts: Sequence[str]
) -> tf.distribute.Strategy:
    """Return TensorFlow's own strategy of several processes; devices of a host reduce first.

    Its servers listen on free ports, which the processes tell each other. It must be made
    before the process does anything else with TensorFlow: even listing logical devices.
    """
    with socket.create_server(("", 0)) as listener:
        port = int(listener.getsockname()[1])
    own = np.zeros(collective.size)
    own[collective.rank] = port
    ports = collective.sum(own).astype(int)
    addresses = [f"{host}:{port}" for host, port in zip(hosts, ports, strict=True)]
    resolver = tf.distribute.cluster_resolver.SimpleClusterResolver(
        tf.train.ClusterSpec({"worker": addresses}),
        task_type="worker",
        task_id=collective.rank,
        rpc_layer="grpc",
    )
    kinds = tf.distribute.experimental.CommunicationImplementation
    options = tf.distribute.experimental.CommunicationOptions(
        implementation=kinds.NCCL if all_reduce == "nccl" else kinds.RING
    )
    return tf.distribute.MultiWorkerMirroredStrategy(resolver, options)


def _summed(collective: Collective, tensors: Sequence[tf.Tensor]) -> list[tf.Tensor]:
    """Sum tensors over the processes in buckets, the last ones first: as gradients come about.

    The sums are stateful operations, which TensorFlow runs one after the other in the order in
    which they were traced: the same in all processes.
    """
    summed: dict[int, tf.Tensor] = {}
    for bucket in _buckets(tensors):
        flat = [tf.reshape(tensors[number], [-1]) for number in bucket]
        total = tf.numpy_function(
            collective.sum, [flat[0] if len(flat) == 1 else tf.concat(flat, 0)], flat[0].dtype
        )
        sizes = [tf.size(one) for one in flat]
        for number, part in zip(bucket, tf.split(total, sizes, num=len(sizes)), strict=True):
            summed[number] = tf.ensure_shape(
                tf.reshape(part, tf.shape(tensors[number])), tensors[number].shape
            )
    return [summed[number] for number in range(len(tensors))]


def _buckets(tensors: Sequence[tf.Tensor]) -> list[list[int]]:
    buckets: list[list[int]] = []
    room: dict[tf.DType, int] = {}
    latest: dict[tf.DType, list[int]] = {}
    for number in reversed(range(len(tensors))):
        dtype = tensors[number].dtype
        size = int(np.prod([n or 1 for n in tensors[number].shape])) * dtype.size
        if room.get(dtype, 0) < size:
            latest[dtype] = []
            buckets.append(latest[dtype])
            room[dtype] = BUCKET_BYTES
        latest[dtype].append(number)
        room[dtype] -= size
    return buckets
