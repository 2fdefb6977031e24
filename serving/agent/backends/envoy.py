"""The backend `envoy`: one Envoy of this machine told by files, or many of a cluster that ask."""

from contract.tokens import read_token
from serving.agent.api import DISCOVERY
from serving.agent.backends.backend_kind import BackendKind, OpenBackend
from serving.agent.backends.discovery_api import discovery_api
from serving.agent.hosts.host import ServerHost
from serving.agent.settings import AgentSettings, ClusterSettings, MachineSettings
from serving.supervisord.supervision import Program
from serving.traffic.envoy.binary import envoy_binary
from serving.traffic.envoy.discovery import DiscoveryChannel
from serving.traffic.envoy.envoy import Envoy
from serving.traffic.envoy.files import FileChannel, prepare


def envoy_program(settings: MachineSettings) -> Program:
    """Write Envoy's bootstrap and return the program that runs it."""
    bootstrap = prepare(settings.envoy_folder, settings.envoy_admin_port)
    options = ("--use-dynamic-base-id", "--disable-hot-restart", "--log-level", "warning")
    return Program(
        name="envoy",
        command=(envoy_binary(), "-c", str(bootstrap), *options),
        log_file=settings.logs_folder / "envoy.log",
        priority=100,
        health_url=f"http://127.0.0.1:{settings.envoy_admin_port}/ready",
    )


def _open(settings: AgentSettings, servers: ServerHost) -> OpenBackend:
    options = settings.listener_options()
    if isinstance(settings, ClusterSettings):
        # only here: the Kubernetes client is large
        from serving.agent.hosts.deployed_servers import DeployedServers

        assert isinstance(servers, DeployedServers)
        channel = DiscoveryChannel(servers.is_gone)
        asked = discovery_api(channel, read_token(settings.envoy_token_file))
        return OpenBackend(Envoy(channel, options), {DISCOVERY: asked})
    assert isinstance(settings, MachineSettings)
    prepare(settings.envoy_folder, settings.envoy_admin_port)
    files = FileChannel(settings.envoy_folder, settings.envoy_admin_port)
    return OpenBackend(Envoy(files, options))


def _programs(settings: MachineSettings) -> list[Program]:
    return [envoy_program(settings)]


ENVOY = BackendKind(open=_open, programs=_programs)
