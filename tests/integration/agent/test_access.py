"""Tokens, TLS, and who may write plans."""

import ssl
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import httpx
import pytest

from components.runs.agent_client import AgentClient
from contract.errors import EXIT_UNEXPECTED, EXIT_USER_ERROR, ConflictError, UserError
from contract.records.traffic import Arm


def test_of_two_writers_one_wins_and_the_other_learns_what_is_in_force(stack) -> None:
    stack.package(1)
    base = stack.client.plan("digits")
    arms = (Arm(name="stable", version=1, weight_percent=100),)
    plans = [base.model_copy(update={"arms": arms, "author": f"writer {i}"}) for i in range(8)]

    def propose(plan):
        try:
            return stack.client.propose(plan)
        except ConflictError as error:
            return error

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(propose, plans))
    winners = [answer for answer in answers if not isinstance(answer, ConflictError)]
    losers = [answer for answer in answers if isinstance(answer, ConflictError)]
    assert (len(winners), len(losers)) == (1, 7)
    assert stack.client.plan("digits") == winners[0]
    assert all(loser.current == winners[0] for loser in losers)


def test_the_control_api_wants_its_token(stack) -> None:
    url = f"http://127.0.0.1:{stack.settings.port}"
    assert httpx.get(f"{url}/healthz").status_code == 200
    assert httpx.get(f"{url}/v1/pipelines").status_code == 401
    with pytest.raises(UserError, match="refused this token"):
        AgentClient(url, "wrong").plan("digits")


def test_the_control_api_lists_pipelines_with_a_plan(stack) -> None:
    url = f"http://127.0.0.1:{stack.settings.port}/v1/pipelines"
    headers = {"authorization": "Bearer secret"}
    assert httpx.get(url, headers=headers).json() == {"pipelines": []}
    stack.package(1)
    stack.propose({1: 100})
    assert httpx.get(url, headers=headers).json() == {"pipelines": ["digits"]}


def test_the_data_plane_can_require_a_token(make_stack, tmp_path) -> None:
    (tmp_path / "callers").write_text("open sesame\n")
    stack = make_stack(data_plane_token_file=tmp_path / "callers")
    stack.package(1)
    stack.serve({1: 100})
    url = f"{stack.url}/v1/models/digits:predict"
    without = httpx.post(url, json={})
    assert (without.status_code, without.headers["www-authenticate"]) == (401, "Bearer")
    assert "Authorization" in without.json()["error"]
    assert httpx.post(url, json={}, headers={"authorization": "Bearer no"}).status_code == 401
    known = httpx.post(url, json={}, headers={"authorization": "Bearer open sesame"})
    # it stays between the caller and the data plane
    assert (known.status_code, known.json()["has_token"]) == (200, False)


def test_the_data_plane_can_speak_tls(make_stack, tmp_path) -> None:
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    subprocess.run(
        "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost "
        f"-addext subjectAltName=IP:127.0.0.1 -keyout {key} -out {certificate}".split(),
        check=True,
        capture_output=True,
    )
    stack = make_stack(tls_certificate=certificate, tls_private_key=key)
    stack.package(1)
    stack.serve({1: 100})
    context = ssl.create_default_context(cafile=str(certificate))
    url = f"https://127.0.0.1:{stack.settings.envoy_port}/v1/models/digits:predict"
    assert httpx.post(url, json={}, verify=context).status_code == 200
    with pytest.raises(httpx.HTTPError):
        httpx.post(url.replace("https", "http"), json={})


def test_a_second_agent_in_one_home_is_refused(stack) -> None:
    code, said = run_agent(stack.settings)
    assert (code, "held by serving agent, process " in said) == (EXIT_UNEXPECTED, True)


def test_an_agent_whose_port_is_taken_says_so(stack, tmp_path) -> None:
    code, said = run_agent(replace(stack.settings, home=tmp_path / "other"))
    assert (code, "cannot listen there" in said) == (EXIT_USER_ERROR, True)


def run_agent(settings) -> tuple[int, str]:
    command = [sys.executable, "-m", "serving.agent", *settings.arguments()]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    return ended.returncode, ended.stderr
