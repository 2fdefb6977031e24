"""The backend `envoy`: Envoys of this machine told by files, or many of a cluster that ask."""

import math
from collections.abc import Mapping
from pathlib import Path

from contract.tokens import read_token
from serving.agent.api import DISCOVERY
from serving.agent.backends.backend_kind import BackendKind, OpenBackend
from serving.agent.backends.discovery_api import discovery_api
from serving.agent.backends.envoy_keeper import KUBELETS_SECONDS, EnvoyKeeper
from serving.agent.backends.envoy_metrics import METRICS, envoy_metrics
from serving.agent.hosts.host import ServerHost
from serving.agent.settings import AgentSettings, ClusterSettings, MachineSettings
from serving.supervisord.configuration import Program, descriptors, short_socket
from serving.supervisord.supervision import Supervisor
from serving.traffic.envoy.admin import EnvoyAdmin
from serving.traffic.envoy.binary import envoy_binary
from serving.traffic.envoy.discovery import DiscoveryChannel
from serving.traffic.envoy.edge import EdgeLimits
from serving.traffic.envoy.envoy import Envoy
from serving.traffic.envoy.files import FileChannel, prepare


def envoy_programs(settings: MachineSettings) -> list[Program]:
    """Write the bootstraps of this machine's Envoys and return the programs that run them."""
    return [_program(settings, name, socket) for name, socket in _sockets(settings).items()]


def _program(settings: MachineSettings, name: str, admin: Path) -> Program:
    """Return an Envoy's program."""
    bootstrap = prepare(settings.envoy_folder, name, admin, _limits(settings))
    options = ("--use-dynamic-base-id", "--disable-hot-restart", "--log-level", "warning")
    return Program(
        name=name,
        command=(envoy_binary(), "-c", str(bootstrap), *options),
        log_file=settings.logs_folder / f"{name}.log",
        priority=100,
        is_ready=EnvoyAdmin(admin).is_ready,
        is_adopted=True,
    )


def admin_of(settings: MachineSettings, name: str) -> EnvoyAdmin:
    """Return the admin interface of the Envoy that a program runs."""
    return EnvoyAdmin(_sockets(settings)[name])


def _sockets(settings: MachineSettings) -> Mapping[str, Path]:
    """Return the admin socket of each Envoy by its program's name."""
    names = ["envoy", *(f"envoy-{number}" for number in range(2, settings.envoys + 1))]
    return {name: short_socket(settings.envoy_folder / f"{name}.sock") for name in names}


def _limits(settings: MachineSettings) -> EdgeLimits:
    """Return what each Envoy gives to callers: its share of their connections."""
    share = math.ceil(settings.max_connections / settings.envoys)
    return EdgeLimits(max_connections=share).within(descriptors())


def _open(settings: AgentSettings, servers: ServerHost) -> OpenBackend:
    options = settings.listener_options()
    if isinstance(settings, ClusterSettings):
        # only here: the Kubernetes client is large
        from serving.agent.hosts.deployed_servers import DeployedServers

        assert isinstance(servers, DeployedServers)
        channel = DiscoveryChannel(servers.is_gone)
        asked = discovery_api(channel, read_token(settings.envoy_token_file))
        keeper = EnvoyKeeper(channel.instances, left_out_seconds=KUBELETS_SECONDS)
        envoy = Envoy(channel, options, is_silent=keeper.is_silent)
        return OpenBackend(envoy, {DISCOVERY: asked}, keeper.look, envoy.hosts)
    assert isinstance(settings, MachineSettings)
    sockets = _sockets(settings)
    for name, socket in sockets.items():
        prepare(settings.envoy_folder, name, socket, _limits(settings))
    files = FileChannel(settings.envoy_folder, [*sockets.values()])
    programs = {str(socket): name for name, socket in sockets.items()}
    shown = envoy_metrics({programs[one.name]: one for one in files.admins})
    supervisor = Supervisor(settings.supervisor_home, settings.supervisor_socket)
    keeper = EnvoyKeeper(lambda: files.admins, lambda name: supervisor.kill_program(programs[name]))
    envoy = Envoy(files, options, is_silent=keeper.is_silent)
    return OpenBackend(envoy, {METRICS: shown}, keeper.look, envoy.hosts)


ENVOY = BackendKind(open=_open, programs=envoy_programs)
