"""The backend `envoy`: Envoys of this machine told by files, or many of a cluster that ask."""

import math

from contract.addresses import LOOPBACK
from contract.tokens import read_token
from serving.agent.api import DISCOVERY
from serving.agent.backends.backend_kind import BackendKind, OpenBackend
from serving.agent.backends.discovery_api import discovery_api
from serving.agent.backends.envoy_keeper import KUBELETS_SECONDS, EnvoyKeeper
from serving.agent.hosts.host import ServerHost
from serving.agent.settings import AgentSettings, ClusterSettings, MachineSettings
from serving.supervisord.configuration import Program, descriptors
from serving.supervisord.supervision import Supervisor
from serving.traffic.envoy.binary import envoy_binary
from serving.traffic.envoy.discovery import DiscoveryChannel
from serving.traffic.envoy.edge import EdgeLimits
from serving.traffic.envoy.envoy import Envoy
from serving.traffic.envoy.files import FileChannel, prepare

_FIRST, _SECOND = "envoy", "envoy-2"


def envoy_programs(settings: MachineSettings) -> list[Program]:
    """Write the bootstraps of this machine's Envoys and return the programs that run them."""
    return [_program(settings, name, port) for name, port in _admin_ports(settings).items()]


def _program(settings: MachineSettings, name: str, admin_port: int) -> Program:
    """Return an Envoy's program."""
    limits = _limits(settings)
    own_bootstrap = name.replace(_FIRST, "bootstrap")
    bootstrap = prepare(settings.envoy_folder, admin_port, limits, own_bootstrap)
    options = ("--use-dynamic-base-id", "--disable-hot-restart", "--log-level", "warning")
    return Program(
        name=name,
        command=(envoy_binary(), "-c", str(bootstrap), *options),
        log_file=settings.logs_folder / f"{name}.log",
        priority=100,
        health_url=_ready(admin_port),
        is_adopted=True,
    )


def _ready(admin_port: int) -> str:
    return f"http://{LOOPBACK}:{admin_port}/ready"


def _admin_ports(settings: MachineSettings) -> dict[str, int]:
    """Return the admin port of each Envoy by its program's name."""
    ports = {_FIRST: settings.envoy_admin_port, _SECOND: settings.second_envoy_admin_port}
    return {name: port for name, port in ports.items() if port}


def _limits(settings: MachineSettings) -> EdgeLimits:
    """Return what each Envoy gives to callers: its share of their connections."""
    share = math.ceil(settings.max_connections / len(_admin_ports(settings)))
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
    prepare(settings.envoy_folder, settings.envoy_admin_port, _limits(settings))
    ports = _admin_ports(settings)
    files = FileChannel(settings.envoy_folder, list(ports.values()))
    programs = {f"{LOOPBACK}:{port}": name for name, port in ports.items()}
    supervisor = Supervisor(settings.supervisor_home, settings.supervisor_socket)
    keeper = EnvoyKeeper(lambda: files.admins, lambda name: supervisor.kill_program(programs[name]))
    envoy = Envoy(files, options, is_silent=keeper.is_silent)
    return OpenBackend(envoy, keep=keeper.look, hosts=envoy.hosts)


ENVOY = BackendKind(open=_open, programs=envoy_programs)
