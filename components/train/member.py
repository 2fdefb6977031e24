"""What the processes beside the chief do: take part until it ends."""

import logging

from components.data.examples import ExampleSource, example_source
from components.train.learning.learner import Learner
from components.train.learning.steppers import InStep
from components.train.parameter_servers.server import serve
from components.train.parameter_servers.worker import Worker
from components.train.peers.failures import explain, is_of_another_process
from components.train.peers.session import Session, member_session
from components.train.peers.team import MemberTeam
from components.train.train import end_at_once, open_learner, termination
from components.train.watch.meter import Meter
from contract.layout import RunLayout
from contract.loader import load_frozen
from contract.records.data import TransformRecord
from contract.records.record import Result
from contract.roles import Role
from contract.schema.pipeline import PipelineConfig

log = logging.getLogger("slipway")


def take_part(role: Role, run: RunLayout) -> None:
    """Join the chief of a run's training and work for it until it ends well.

    Raises:
        PeerError: If the chief is gone, or ends badly: with its reason.
        UserError: If data, model or config are at fault; the chief has been told.
    """
    with member_session(role, run, lambda: load_frozen(run).train) as (_, session):
        team = session.team
        assert isinstance(team, MemberTeam)
        config = load_frozen(run)
        transformed = Result.read(run.result("transform")).detail_as(TransformRecord)
        source = example_source(run, config, transformed, "train")
        is_replaceable = role.kind in config.train.replaceable_kinds
        with end_at_once() if is_replaceable else termination(team.stopping):
            try:
                if role.kind == "ps":
                    serve(config, run, session)
                else:
                    learner = open_learner(config, run, transformed, session)
                    _work(learner, run, source, session)
            except Exception as error:
                if (reason := _explained(error, session, source, config)) is not None:
                    raise reason from error
        team.wait_for_end()


def _work(learner: Learner, run: RunLayout, source: ExampleSource, session: Session) -> None:
    if learner.config.train.strategy == "parameter_server":
        Worker(learner, source, session).work()
        return
    stepper = InStep(learner, source, session.collective)
    _follow(stepper, learner.config, session, stepper.resume(run, 0))


def _follow(stepper: InStep, config: PipelineConfig, session: Session, step: int) -> None:
    """Make steps in time with the chief, and measure them."""
    team = session.team
    assert isinstance(team, MemberTeam)
    meter = Meter(stepper.waited_seconds)
    meter.start(step)
    stepper.open()
    share = config.train.batch_size / session.collective.size
    while (figures := stepper.follow()) is not None:
        step += 1
        meter.note({"input_seconds": float(figures["input_seconds"])})
        team.figures["step"] = step
        if step % config.train.log_every_steps == 0:
            team.figures = {**meter.read(step, share), "step": step}


def _explained(
    error: Exception, session: Session, source: ExampleSource, config: PipelineConfig
) -> Exception | None:
    """Return the error behind an error, None if the chief has ended; tell it what is our own."""
    team = session.team
    assert isinstance(team, MemberTeam)
    if is_of_another_process(error, session.collective):
        found = team.reason_of(error)
        return None if team.has_ended else found
    found = explain(error, source, config.train.batch_size, int(team.figures.get("step", 0)))
    team.report(found)
    return found
