"""Opening and closing what joins the processes of one training."""

import logging
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial

from components.train.peers.collectives import Alone, Collective, Mpi, Ring
from components.train.peers.greeting import Credentials
from components.train.peers.listener import Listener
from components.train.peers.team import ChiefTeam, MemberTeam, Team, TeamSettings
from contract.errors import ConfigError, SlipwayError
from contract.layout import RunLayout
from contract.records.training import Hang
from contract.roles import Role
from contract.schema.training import TrainConfig

_SILENCE_SECONDS = 60.0  # without a beat, which comes each second
_JOIN_SECONDS = 600.0  # a member does not know the config before the chief has frozen it

log = logging.getLogger("slipway")


@dataclass
class Session:
    """One process's ties to the others; `team` is None where there are none."""

    role: Role
    collective: Collective
    team: Team | None = None
    listener: Listener | None = None

    @property
    def hosts(self) -> list[str]:
        """Where those run that make steps together, by rank; empty under MPI."""
        if not self.role.addresses:
            return []
        return [address.rsplit(":", 1)[0] for _, address in training_rank(self.role)[1]]

    @property
    def chief_team(self) -> ChiefTeam | None:
        """The team, if this is the chief of several processes."""
        return self.team if isinstance(self.team, ChiefTeam) else None

    def close(self) -> None:
        """Let go of the others, who have been told by now."""
        self.collective.close()
        if self.listener is not None:
            self.listener.close()


def check_role(config: TrainConfig, role: Role) -> None:
    """Refuse a strategy that does not fit the processes there are.

    Raises:
        ConfigError: That says what was found and how to start it.
    """
    problem = _problem(config, role)
    if problem:
        raise ConfigError([f"train.strategy {config.strategy}: {problem}"])


@contextmanager
def chief_session(config: TrainConfig, role: Role, run: RunLayout) -> Iterator[Session]:
    """Yield the chief's session once every member is there; tell them at the end how it ended.

    Raises:
        PeerError: If a member does not come.
        ConfigError: If the strategy does not fit the processes.
    """
    check_role(config, role)
    if role.is_alone:
        yield Session(role, Alone())
        return
    mpi = _open_mpi(role)
    credentials = Credentials.of(run)
    listener = Listener(role.address if mpi is None else _own_address(), credentials)
    if mpi is not None:
        mpi.broadcast(f"{_own_address(listener.port)}")
    silence = min(_SILENCE_SECONDS, config.step_timeout_seconds / 2)  # before the step is too long
    patience = config.start_timeout_seconds
    settings = TeamSettings(credentials, patience, silence, config.replaceable_kinds)
    team = ChiefTeam(role, settings, listener)
    team.on_hang(partial(_note_hang, run))
    code, reason = 1, "it failed"
    session: Session | None = None
    try:
        team.gather()
        session = Session(role, _collective(config, role, mpi, (listener, team)), team, listener)
        yield session
        code, reason = 0, "all done"
    except BaseException as error:
        code, reason = getattr(error, "exit_code", 1), str(error)
        raise
    finally:
        team.end(code, reason)
        if session is not None:
            session.close()


@contextmanager
def member_session(
    role: Role, run: RunLayout, load: Callable[[], TrainConfig]
) -> Iterator[tuple[TrainConfig, Session]]:
    """Join the chief, then yield the config, which it has frozen by now, and the session.

    Raises:
        PeerError: If the chief does not answer.
    """
    mpi = _open_mpi(role)
    address = role.addresses["chief"][0] if mpi is None else mpi.broadcast("")
    credentials = Credentials.of(run)
    listener = Listener(role.address if mpi is None else _own_address(), credentials)
    team = MemberTeam(role, TeamSettings(credentials, _JOIN_SECONDS, _JOIN_SECONDS), address)
    try:
        config = load()
        check_role(config, role)
        session = Session(role, _collective(config, role, mpi, (listener, team)), team, listener)
    except Exception as error:
        team.report(error)
        raise
    try:
        yield config, session
    finally:
        session.close()


def training_rank(role: Role) -> tuple[int, list[tuple[str, str]]]:
    """Return this process's place among those that train in step, and their names and addresses."""
    everyone = [("chief-0", role.addresses["chief"][0])]
    workers = role.addresses.get("worker", ())
    everyone += [(f"worker-{index}", address) for index, address in enumerate(workers)]
    return (0 if role.is_chief else role.index + 1), everyone


def _note_hang(run: RunLayout, role: str, reason: str) -> None:
    """Leave a record for the launcher, which ends the process."""
    try:
        hang = Hang(role=role, reason=reason, noted_at=datetime.now(UTC))
        hang.write(run.hangs / f"{role}.json")
    except (SlipwayError, OSError) as error:
        log.warning("train: cannot note that %s hangs: %s", role, error)


def _collective(
    config: TrainConfig, role: Role, mpi: Mpi | None, ties: tuple[Listener, Team]
) -> Collective:
    listener, team = ties
    if mpi is not None:
        mpi.watched_by(team)
        collective: Collective = mpi
    elif config.strategy == "multi_worker":
        rank, everyone = training_rank(role)
        collective = Ring(rank, everyone, listener, team)
    else:
        collective = Alone()
    collective.is_compressed = config.compression == "bfloat16"
    return collective


def _open_mpi(role: Role) -> Mpi | None:
    if not role.mpi_size:
        return None
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:
        raise ConfigError(
            [f"train.strategy mpi: MPI's library does not load ({error}); install openmpi-bin"]
        ) from error
    return Mpi(None, MPI.COMM_WORLD)


def _own_address(port: int = 0) -> str:
    """Return where other ranks reach this one; the loopback where all are on one machine."""
    ranks = os.environ.get("OMPI_COMM_WORLD_SIZE", "")
    is_local = os.environ.get("OMPI_COMM_WORLD_LOCAL_SIZE") == ranks
    return f"{'127.0.0.1' if is_local else _own_host()}:{port}"


def _own_host() -> str:
    """Return this machine's address, or its name where that stands for the loopback (Debian).

    A pod's own name means nothing to other pods; its address does.
    """
    name = socket.gethostname()
    address = socket.gethostbyname(name)
    return name if address.startswith("127.") else address


def _problem(config: TrainConfig, role: Role) -> str:
    strategy, members = config.strategy, len(role.members)
    if strategy == "mpi":
        if not role.mpi_size:
            return "expected to be started by mpirun; 'slipway run' does that"
        return _count_problem("ranks", role.mpi_size, config.workers)
    if role.mpi_size > 1:
        return f"one of {role.mpi_size} MPI ranks; expected train.strategy mpi"
    if strategy in ("single", "mirrored"):
        return "" if members == 1 else f"is one process; TF_CONFIG names {members}"
    workers = len(role.addresses.get("worker", ()))
    if strategy == "multi_worker":
        if config.workers > 1 and members == 1:
            return f"expected TF_CONFIG with {config.workers} processes; 'slipway run' sets it"
        return _count_problem("processes that train", workers + 1, config.workers)
    if members == 1:
        return "expected TF_CONFIG with chief, workers and ps; 'slipway run' sets it"
    servers = len(role.addresses.get("ps", ()))
    return _count_problem("workers", workers, config.workers) or _count_problem(
        "parameter servers", servers, config.parameter_servers
    )


def _count_problem(what: str, found: int, expected: int) -> str:
    return "" if found == expected else f"found {found} {what}, expected {expected} by the config"
