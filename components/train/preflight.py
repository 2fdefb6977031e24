"""What makes a training impossible on this machine, said before it costs anything."""

import importlib.metadata
import shutil
from collections.abc import Callable, Iterator

from contract.schema.pipeline import PipelineConfig
from contract.schema.training import TrainConfig

_NEWEST_HOROVOD_TENSORFLOW = (2, 16)  # horovod/horovod stopped building from there on


def training_problems(config: PipelineConfig) -> Iterator[str]:
    """Yield a sentence for each: what was found, why it cannot be, what to do.

    What the config alone can tell is refused when it is read, by `TrainConfig`.
    """
    if config.train.strategy == "mpi":
        yield from _mpi_problems()


def count_gpus() -> int:
    """Return how many GPUs TensorFlow finds in this process."""
    import tensorflow as tf

    return len(tf.config.list_physical_devices("GPU"))


def training_warnings(
    config: PipelineConfig, gpus: Callable[[], int] = count_gpus
) -> Iterator[str]:
    """Yield a sentence for what cannot be here, but can be where the workers have GPUs."""
    if config.train.all_reduce == "nccl" and not gpus():
        yield "train.all_reduce: nccl works between GPUs, and this machine has none: see 'ring'"
    if _drives_one_device(config.train) and gpus() > 1:
        yield (
            f"train.strategy: {config.train.strategy} drives one GPU in each process, and this "
            f"machine has {gpus()}: start a process for each (CUDA_VISIBLE_DEVICES), or see "
            "'mirrored', and train.all_reduce: nccl"
        )
    if config.train.precision == "mixed_float16" and not gpus():
        yield (
            "train.precision: mixed_float16 is slower than float32 on CPUs, and this machine has "
            "no GPU: see mixed_bfloat16"
        )


def version_problems(installed: dict[str, str] | None = None) -> Iterator[str]:
    """Yield a sentence for each library whose version excludes another's."""
    found = installed if installed is not None else _installed()
    tensorflow = found.get("tensorflow", "0.0")
    if "horovod" in found and _release(tensorflow) >= _NEWEST_HOROVOD_TENSORFLOW:
        yield (
            f"horovod {found['horovod']} does not work with TensorFlow {tensorflow}: it was never "
            "built for 2.16 or newer; uninstall it and use train.strategy: mpi"
        )
    if _release(found.get("keras", "3.0")) < (3, 0):
        yield f"keras {found['keras']}: training is written for Keras 3; install the lock file"


def _mpi_problems() -> Iterator[str]:
    if shutil.which("mpirun") is None:
        yield "train.strategy: mpi: no 'mpirun' on PATH; install OpenMPI (apt install openmpi-bin)"
        return
    try:
        from mpi4py import MPI  # noqa: F401 (loading it is the question)
    except (ImportError, RuntimeError) as error:
        yield f"train.strategy: mpi: mpi4py does not load MPI's library: {error}"


def _drives_one_device(train: TrainConfig) -> bool:
    return train.strategy != "mirrored" and (
        train.strategy != "multi_worker" or train.all_reduce == "ring"
    )


def _installed() -> dict[str, str]:
    names = ("tensorflow", "keras", "horovod")
    found = {}
    for name in names:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _release(version: str) -> tuple[int, int]:
    major, minor = version.split(".")[:2]
    return int(major), int(minor)
