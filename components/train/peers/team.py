"""The processes of one training as each other's witnesses: who is there, alive, and why it ended.

Every member keeps one connection to the chief. Both sides send a beat each second; what a member
measures travels with it. A member that fails says so before it leaves, so that all logs have the
reason; a silent member is named. Losing a member ends the training (to be started again by the
launcher, from the last checkpoint), unless its kind is replaceable.
"""

import contextlib
import logging
import os
import queue
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from components.train.peers.greeting import Caller, Credentials
from components.train.peers.listener import Listener, call
from components.train.peers.wire import Connection, Message, PeerError
from contract.errors import EXIT_UNEXPECTED, EXIT_USER_ERROR, SlipwayError, UserError
from contract.roles import Role

BEAT_SECONDS = 1.0
_LEAVE_SECONDS = 10.0  # for the main thread to end by itself after a failure
_REPORT_SECONDS = 3.0  # for a reason to arrive after a connection has broken
_REMINDER_SECONDS = 5.0  # between two words about who has not joined

Figures = dict[str, float]

log = logging.getLogger("slipway")


@dataclass(frozen=True)
class TeamSettings:
    """Who takes part in what, and how long to wait for each other.

    Attributes:
        credentials: Of the job; a process without them is turned away.
        patience_seconds: For all members to be there.
        silence_seconds: Without a beat for so long a process counts as hanging.
        replaceable: Kinds of members without which training continues.
    """

    credentials: Credentials
    patience_seconds: float
    silence_seconds: float
    replaceable: frozenset[str] = frozenset()


class Team:
    """What chief and members have in common: the first failure, and waking who waits."""

    def __init__(self, name: str, settings: TeamSettings) -> None:
        self.name = name
        self.settings = settings
        self.failure: SlipwayError | None = None
        self.is_over = False
        self._wake: list[Callable[[], None]] = []
        self._failing = threading.Lock()

    def wake_on_failure(self, wake: Callable[[], None]) -> None:
        """Have `wake` called when the team fails: it must end what the main thread waits for."""
        self._wake.append(wake)

    def fail(self, error: SlipwayError) -> None:
        """Note the first failure, wake the main thread, and see that the process leaves."""
        with self._failing:
            if self.failure is not None or self.is_over:
                return
            self.failure = error
        log.error("train: %s: %s", self.name, error)
        for wake in self._wake:
            wake()
        threading.Thread(target=self._leave_at_last, args=(error,), daemon=True).start()

    def reason_of(self, error: Exception) -> Exception:
        """Return the team's failure if it explains `error`, else `error` itself."""
        deadline = time.monotonic() + _REPORT_SECONDS
        while self.failure is None and not self.is_over and time.monotonic() < deadline:
            time.sleep(0.02)
        return self.failure or error

    def call(self, address: str, peer: str, purpose: str) -> Connection:
        """Connect to another process of the team for a purpose.

        Raises:
            PeerError: If it does not listen in time, or is not of the job.
        """
        settings, who = self.settings, Caller(self.name, purpose)
        return call(address, peer, settings.credentials, who, settings.patience_seconds)

    def check(self) -> None:
        """Raise the team's failure, if there is one."""
        if self.failure is not None:
            raise self.failure

    def _leave_at_last(self, error: SlipwayError) -> None:
        time.sleep(_LEAVE_SECONDS)
        log.error("train: %s: the main thread did not end: leaving", self.name)
        leave(error.exit_code)


def leave(exit_code: int) -> None:
    """End this process now, from whatever thread: its main thread hangs."""
    logging.shutdown()
    sys.stdout.flush()
    os._exit(exit_code)


@dataclass
class _Member:
    name: str
    connection: Connection
    heard_at: float = field(default_factory=time.monotonic)
    figures: Figures = field(default_factory=dict)


class ChiefTeam(Team):
    """The chief's side."""

    def __init__(self, role: Role, settings: TeamSettings, listener: Listener) -> None:
        super().__init__(role.name, settings)
        self.listener = listener
        self._role = role
        self._members: dict[str, _Member] = {}
        self._changed = threading.Condition()
        self._joined: list[Callable[[str], None]] = []
        self._lost: list[Callable[[str], None]] = []
        self._stop: Callable[[str], None] = lambda _: None
        self._message: Callable[[str, Message], None] = lambda _, __: None
        self._hang: Callable[[str, str], None] = lambda _, __: None
        listener.answer("control", self._welcome)

    def gather(self) -> None:
        """Wait until every member is there.

        Raises:
            PeerError: That names those who are not.
        """
        patience = self.settings.patience_seconds
        deadline = time.monotonic() + patience
        with self._changed:
            while missing := ", ".join(self._missing()):
                left = deadline - time.monotonic()
                if left <= 0:
                    raise PeerError(
                        f"{missing} did not join within {patience:g} s "
                        "(train.start_timeout_seconds); see the log of that process"
                    )
                if not self._changed.wait(min(left, _REMINDER_SECONDS)):
                    left = deadline - time.monotonic()
                    log.info("train: waiting for %s, for %.0f s at most", missing, left)
        threading.Thread(target=self._watch, daemon=True).start()

    def on_change(self, joined: Callable[[str], None], lost: Callable[[str], None]) -> None:
        """Be told of replaceable members that come (back) and go."""
        self._joined.append(joined)
        self._lost.append(lost)

    def on_stop(self, stop: Callable[[str], None]) -> None:
        """Be told, in words, when a member was told to stop."""
        self._stop = stop

    def on_hang(self, note: Callable[[str, str], None]) -> None:
        """Be told who hangs, and why it counts as hanging, before the member is given up."""
        self._hang = note

    def on_message(self, answer: Callable[[str, Message], None]) -> None:
        """Be handed what members say of their work, by their names."""
        self._message = answer

    def present(self, kind: str) -> list[str]:
        """Return the names of the members of a kind that are there."""
        return sorted(name for name in self._members if name.rsplit("-", 1)[0] == kind)

    def figures(self) -> dict[str, Figures]:
        """Return what each member last measured, by its name."""
        return {name: dict(member.figures) for name, member in list(self._members.items())}

    def tell(self, member: str, kind: str, fields: Mapping[str, Any] | None = None) -> None:
        """Send a member a message; a lost one is noticed elsewhere."""
        found = self._members.get(member)
        if found is not None:
            try:
                found.connection.send(kind, fields)
            except PeerError as error:
                self._lose(found, error)

    def end(self, exit_code: int, reason: str) -> None:
        """Tell every member that training has ended, and how they must end."""
        self.is_over = True
        for member in list(self._members.values()):
            try:
                member.connection.send("ended", {"exit_code": exit_code, "reason": reason})
            except PeerError:
                log.debug("%s was gone already", member.name)
        self.listener.close()

    def _missing(self) -> list[str]:
        return sorted(set(self._role.members) - {self.name} - set(self._members))

    def _welcome(self, connection: Connection, _hello: Message) -> None:
        member = _Member(connection.peer, connection)
        if member.name not in self._role.members:
            reason = f"{member.name} is not in this job's TF_CONFIG"
            connection.send("refused", {"reason": reason})
            return
        if (before := self._members.get(member.name)) is not None:
            self._lose(before, PeerError(f"{member.name} has started again"))
        connection.send("welcome", {"silence_seconds": self.settings.silence_seconds})
        with self._changed:
            self._members[member.name] = member
            self._changed.notify_all()
        for joined in self._joined:
            joined(member.name)
        threading.Thread(target=self._hear, args=(member,), daemon=True).start()

    def _hear(self, member: _Member) -> None:
        try:
            while True:
                message = member.connection.receive()
                member.heard_at = time.monotonic()
                if message.kind == "beat":
                    member.figures = message.fields
                elif message.kind == "stopping":
                    self._stop(f"{message.fields['signal']} of {member.name}")
                elif message.kind == "failed":
                    self._report(member, message.fields)
                else:
                    self._message(member.name, message)
        except PeerError as error:
            self._lose(member, error)

    def _report(self, member: _Member, fields: Mapping[str, Any]) -> None:
        kind = UserError if fields["exit_code"] == EXIT_USER_ERROR else PeerError
        self.fail(kind(f"{member.name}: {fields['reason']}"))

    def _watch(self) -> None:
        while not self.is_over:
            time.sleep(BEAT_SECONDS)
            for member in list(self._members.values()):
                self.tell(member.name, "beat")
                silent = time.monotonic() - member.heard_at
                if silent > self.settings.silence_seconds:
                    step = member.figures.get("step", 0)
                    why = f"not heard of for {silent:.0f} s, its last step was {step:.0f}"
                    self._hang(member.name, why)
                    self._lose(member, PeerError(f"{member.name} hangs: {why}"))

    def _lose(self, member: _Member, error: PeerError) -> None:
        with self._changed:
            if self.is_over or self._members.get(member.name) is not member:
                return
            del self._members[member.name]
        member.connection.close()
        if member.name.rsplit("-", 1)[0] in self.settings.replaceable:
            log.warning("train: %s; training continues without it", error)
            for lost in self._lost:
                lost(member.name)
        else:
            self.fail(PeerError(f"{error}; training must start again from the last checkpoint"))


class MemberTeam(Team):
    """The side of everybody else."""

    def __init__(self, role: Role, settings: TeamSettings, chief_address: str) -> None:
        super().__init__(role.name, settings)
        self.end_code: int | None = None
        self.end_reason = ""
        self.figures: Figures = {}
        self.inbox: queue.Queue[Message | None] = queue.Queue()  # None: there is no more
        self._ended = threading.Event()
        self._chief = self.call(chief_address, "chief-0", "control")
        answer = self._chief.receive()
        if answer.kind != "welcome":
            raise UserError(f"the chief at {chief_address} refused: {answer.fields['reason']}")
        self._chief.set_timeout(float(answer.fields["silence_seconds"]))
        for work in (self._hear, self._beat):
            threading.Thread(target=work, daemon=True).start()

    def tell(self, kind: str, fields: Mapping[str, Any]) -> None:
        """Tell the chief something of one's work."""
        self._chief.send(kind, fields)

    def stopping(self, signal_name: str) -> None:
        """Tell the chief that this process was told to stop, if it is there to hear it."""
        with contextlib.suppress(PeerError):
            self._chief.send("stopping", {"signal": signal_name})

    def report(self, error: Exception) -> None:
        """Tell the chief why this process fails, and wait until it has taken note."""
        exit_code = getattr(error, "exit_code", EXIT_UNEXPECTED)
        try:
            self._chief.send("failed", {"exit_code": exit_code, "reason": str(error)})
        except PeerError:
            return
        self._ended.wait(_LEAVE_SECONDS)

    def wait_for_end(self) -> None:
        """Wait until the chief says that all is over; raise if it did not end well.

        Raises:
            SlipwayError: With the chief's reason, or because the chief is gone.
        """
        self._ended.wait()
        self.check()
        if self.end_code:
            raise (UserError if self.end_code == EXIT_USER_ERROR else PeerError)(self.end_reason)

    @property
    def has_ended(self) -> bool:
        """Whether the chief has said that all is over."""
        return self.end_code is not None

    def _hear(self) -> None:
        try:
            while True:
                message = self._chief.receive()
                if message.kind == "ended":
                    self.end_code = int(message.fields["exit_code"])
                    self.end_reason = f"the chief has ended: {message.fields['reason']}"
                    self.is_over = True
                    for wake in self._wake:
                        wake()
                    return
                if message.kind != "beat":
                    self.inbox.put(message)
        except PeerError as error:
            self.fail(PeerError(f"{error}; this process ends too"))
        finally:
            self._ended.set()
            self.inbox.put(None)

    def _beat(self) -> None:
        while not self._ended.is_set():
            try:
                self._chief.send("beat", self.figures)
            except PeerError:
                return
            time.sleep(BEAT_SECONDS)
