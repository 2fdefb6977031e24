"""What a process must have in common with a warm parent to be its fork: variables, bounds, limits.

All else a request hands over.
"""

import resource
from collections.abc import Mapping
from types import MappingProxyType

from launching.processes.confinement import confinement
from launching.processes.fork_request import ForkRequest

# Libraries read these when they are imported. A process that differs in one cannot be forked. Found
# by recording what Python and C code asks for while the preloaded modules are imported.
_READ_AT_IMPORT = (
    *("PYTHON", "TF_", "XLA_", "KERAS_", "CUDA_", "NVIDIA_", "OMP_", "OPENBLAS_", "MKL_", "KMP_"),
    *("LD_", "MALLOC_", "GLIBC_", "ARROW_", "JE_ARROW_", "GRPC_", "NUMEXPR_", "MPL", "MATPLOTLIB"),
    *("NPY_", "NUMPY_", "SCIPY_", "PANDAS_", "PROTOCOL_BUFFERS_", "GCS_", "HDF5_", "GOTO_"),
    *("OPENSSL_", "SSL_CERT_", "HTTPLIB2_", "OTEL_", "PILLOW_", "PYDANTIC_", "GFORTRAN_"),
    *("MLFLOW_LOGGING_", "MLFLOW_CONFIGURE_LOGGING", "TMP", "TEMP", "HOME", "LANG", "LC_", "TZ"),
    *("XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME"),
)
_READ_LATER = frozenset({"TF_CONFIG", "TF_NUM_INTRAOP_THREADS"})

# The parent has imported more than a component does, and that would count.
_OF_MEMORY = ("RLIMIT_AS", "RLIMIT_DATA")


def difference(
    request: ForkRequest,
    environment: Mapping[str, str],
    now: Mapping[str, str] = MappingProxyType({}),
) -> str:
    """Return why this process, a warm parent, cannot fork a request; empty if it can.

    Args:
        request: What is asked for.
        environment: The variables that this process was started with.
        now: Its variables by now, in which the imports have set some. A fork that asks for another
            fork has those, too.
    """
    asked = request.environment
    variables = _changed(read_at_import(environment), read_at_import(asked))
    if variables := [name for name in variables if name not in now or asked.get(name) != now[name]]:
        return f"it was started with another {', '.join(variables)}"
    if bounds := _changed(confinement(), request.bounds):
        return f"it has another {', '.join(bounds)}"
    unlimited = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    if limits := [n for n in _OF_MEMORY if request.limits.get(n, unlimited)[0] != unlimited[0]]:
        return f"its memory would count against {', '.join(limits)}"
    return ""


def read_at_import(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that must be equal in a warm parent and in what it forks."""
    return {
        name: value
        for name, value in environment.items()
        if name.startswith(_READ_AT_IMPORT) and name not in _READ_LATER
    }


def _changed(own: Mapping[str, str], asked: Mapping[str, str]) -> list[str]:
    return sorted(name for name in {*own, *asked} if own.get(name) != asked.get(name))
