"""What an Envoy shows of itself, on one machine and in a pod, is counters and nothing else."""

from pathlib import Path

from serving.traffic.backend import Endpoint
from serving.traffic.envoy.bootstrap import bootstrap, fleet_bootstrap
from serving.traffic.envoy.edge import EdgeLimits

SHOWN = [{"prefix": "/stats"}, {"exact": "/ready"}]


def test_on_one_machine_only_its_owner_reaches_its_admin_interface() -> None:
    admin = bootstrap({}, {}, Path("/home/ada/envoy.sock"), EdgeLimits())["admin"]
    assert admin["address"] == {"pipe": {"path": "/home/ada/envoy.sock", "mode": 0o600}}
    assert admin["allow_paths"] == SHOWN


def test_in_a_pod_the_agent_reads_counters_and_nobody_more() -> None:
    own, agent = Endpoint("10.1.2.3", 9902), Endpoint("slipway-agent", 8600)
    admin = fleet_bootstrap(own, agent, "secret", EdgeLimits())["admin"]
    assert admin["address"] == {"socket_address": {"address": "0.0.0.0", "port_value": 9902}}
    assert admin["allow_paths"] == SHOWN
