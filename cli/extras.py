"""What a command needs beyond the base install: which extra has it, and how to install it."""

from collections.abc import Mapping
from importlib.util import find_spec

from contract.errors import UserError

# The packages that our code imports, by their names in Python, and the extra that brings them. What
# several extras bring stands under the one that a command lacks first.
_BROUGHT = {
    "airflow": ("airflow", "asgiref", "setproctitle", "uv"),
    "components": (
        *("absl", "apache_beam", "google", "google_crc32c", "keras", "matplotlib", "ml_dtypes"),
        *("mlflow", "mpi4py", "networkx", "numpy", "pandas", "psutil", "pyarrow", "scipy"),
        *("sklearn", "tensorboard", "tensorflow", "tensorflow_metadata", "tensorflow_transform"),
        *("duckdb", "fastavro", "tfx_bsl"),
    ),
    "engines": ("ai_edge_litert", "flatbuffers", "nncf", "openvino"),
    "kubernetes": ("aiohttp", "kubernetes", "kubernetes_asyncio", "urllib3"),
    "serving": (
        *("alembic", "anyio", "fastapi", "grpc", "httptools", "jinja2", "orjson"),
        *("prometheus_client", "sqlalchemy", "supervisor", "uvicorn", "uvloop"),
    ),
}
EXTRA_OF = {module: extra for extra, modules in _BROUGHT.items() for module in modules}
# What commands start as programs, and so do not import themselves.
_STARTED = {
    "components": ("tensorflow", "tensorflow_transform", "apache_beam", "mlflow", "tensorboard"),
    "serving": ("orjson", "httptools", "supervisor"),
    "airflow": ("airflow", "asgiref"),
}


def require(*extras: str) -> None:
    """Look for what the programs of some extras cannot do without, before any of them is started.

    Raises:
        UserError: If extras are not installed; with the command that installs them.
    """
    if (advice := absence(*extras)) is not None:
        raise UserError(f"this command needs {advice}")


def absence(*extras: str) -> str | None:
    """Return how to install those of the extras that are absent, None if all are installed."""
    absent = {
        extra: module
        for extra in extras
        for module in reversed(_STARTED[extra])
        if find_spec(module) is None
    }
    return _advice(absent) if absent else None


def explained(error: ModuleNotFoundError) -> UserError | None:
    """Return what to install for an import that failed, None for one that no extra would fix."""
    module = (error.name or "").partition(".")[0]
    if module not in EXTRA_OF or find_spec(module) is not None:
        return None
    return UserError(f"this command needs {_advice({EXTRA_OF[module]: module})}")


def _advice(absent: Mapping[str, str]) -> str:
    """Return what to install for extras, each with a package of it that is missing."""
    extras, modules = (", ".join(f"'{one}'" for one in part) for part in (absent, absent.values()))
    return (
        f"{'the extra' if len(absent) == 1 else 'the extras'} {extras} "
        f"(not installed: {modules}): pip install 'slipway[{','.join(absent)}]', "
        "or 'slipway[local]' for everything that one machine can run"
    )
