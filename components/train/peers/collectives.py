"""Sums over the processes of one training, on the host: by a ring of TCP connections, or by MPI.

The gradients of one process are some buckets of float32. On a network, and between processes of
one machine, moving them is what a step waits for; so a bucket can be sent as bfloat16, which halves
it, while every sum is made in float32. All processes end with the same bits.
"""

import itertools
import queue
import sys
import threading
import time
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np
import numpy.typing as npt

from components.train.peers.listener import Listener
from components.train.peers.team import Team
from components.train.peers.wire import PeerError
from contract.errors import SlipwayError

if TYPE_CHECKING:
    from mpi4py import MPI

Array = npt.NDArray[Any]

_SMALL = 4096  # elements; fewer are sent whole around the ring: one message a hop, not two
_FLUSH_SECONDS = 5.0
_SPINS = 200  # polls of MPI before we sleep between two
_POLL_SECONDS = 5e-5


class Collective(ABC):
    """Sums of arrays over `size` processes, of which this one is `rank`; 0 is the chief's.

    `failure` is what a sum has failed with: inside a graph, TensorFlow raises its own error
    class for it.
    """

    def __init__(self, rank: int, size: int, is_compressed: bool) -> None:
        self.failure: SlipwayError | None = None
        self.rank = rank
        self.size = size
        self.is_compressed = is_compressed
        self.seconds = 0.0  # spent in sums so far, waiting for others included

    def sum(self, array: Array) -> Array:
        """Return the sum over all processes, which must call it in the same order.

        What others need of this one is with the system when it returns: the caller may stop all
        threads of the process, as TensorFlow does while it connects its own servers.

        Raises:
            PeerError: If another process is gone, or hangs.
            SlipwayError: The failure of the team, where it has ended this wait.
        """
        if self.size == 1:
            return array
        started = time.perf_counter()
        flat = np.ascontiguousarray(array).reshape(-1)
        is_small = flat.size <= max(_SMALL, self.size) or flat.dtype != np.float32
        try:
            total = self._small(flat) if is_small else self._large(flat)
        except SlipwayError as error:
            self.failure = error
            raise
        self.seconds += time.perf_counter() - started
        return total.reshape(array.shape)

    @abstractmethod
    def _small(self, flat: Array) -> Array:
        """Sum a short vector of any number type, exactly."""

    @abstractmethod
    def _large(self, flat: Array) -> Array:
        """Sum a long float32 vector, compressed if asked for."""

    @abstractmethod
    def close(self) -> None:
        """Disconnect from the others; every wait for them ends."""


class Alone(Collective):
    """The only process: sums are what they are."""

    def __init__(self) -> None:
        super().__init__(0, 1, is_compressed=False)

    def _small(self, flat: Array) -> Array:
        return flat

    def _large(self, flat: Array) -> Array:
        return flat

    def close(self) -> None:
        """Nobody to let go of."""


class Ring(Collective):
    """Each process sends to the next and hears from the one before.

    A long vector goes around twice in as many parts as there are processes: once to be summed,
    once to be shared; each process sends 2 (size - 1) / size of it.

    Source:
        Patarasuk and Yuan (2009), "Bandwidth optimal all-reduce algorithms for clusters of
        workstations", J. Parallel Distrib. Comput. 69(2).
    """

    def __init__(
        self, rank: int, addresses: list[tuple[str, str]], listener: Listener, team: Team
    ) -> None:
        super().__init__(rank, len(addresses), is_compressed=False)
        name, address = addresses[(rank + 1) % self.size]
        before, _ = addresses[(rank - 1) % self.size]
        self._next = team.call(address, name, "ring")
        self._before = listener.take("ring", before, team.settings.patience_seconds)
        self._outbox: queue.Queue[Array | None] = queue.Queue()
        self._failed: PeerError | None = None
        self._scratch = np.empty(0, np.uint8)
        self._postman = threading.Thread(target=self._post, daemon=True)
        self._postman.start()
        team.wake_on_failure(self._abort)

    def close(self) -> None:
        """Close both connections, once what the next one still waits for is on its way."""
        self._outbox.put(None)
        self._postman.join(_FLUSH_SECONDS)
        self._abort()

    def _abort(self) -> None:
        self._next.close()
        self._before.close()

    def _small(self, flat: Array) -> Array:
        parts = {self.rank: flat}
        for hop in range(self.size - 1):
            self._send(parts[(self.rank - hop) % self.size])
            arrived = self._receive(flat.size, flat.dtype)
            parts[(self.rank - hop - 1) % self.size] = arrived.copy()
        self._outbox.join()
        total = parts[0].copy()
        for rank in range(1, self.size):  # in the same order everywhere
            total += parts[rank]
        return total

    def _large(self, flat: Array) -> Array:
        """Sum without a copy but what arrives: memory is what this waits for on one machine.

        A part may be overwritten though its sending was only queued: what overwrites it is its
        sum, which had to come through the one to whom it was sent.
        """
        total = np.empty_like(flat)
        bounds = list(itertools.pairwise(np.linspace(0, flat.size, self.size + 1).astype(int)))
        given = [flat[a:b] for a, b in bounds]
        parts = [total[a:b] for a, b in bounds]
        for hop in range(self.size - 1):
            sent, number = (self.rank - hop) % self.size, (self.rank - hop - 1) % self.size
            self._send(self._packed((given if hop == 0 else parts)[sent]))
            arrived = self._receive(given[number].size, self._sent_as)
            np.add(given[number], arrived, out=parts[number], casting="same_kind")
        own = (self.rank + 1) % self.size
        packed = self._packed(parts[own])
        if self.is_compressed:
            parts[own][:] = packed  # rounded, as the others get it
        for hop in range(self.size - 1):
            self._send(packed)
            number = (own - hop - 1) % self.size
            if self.is_compressed:
                packed = self._receive(parts[number].size, self._sent_as).copy()
                parts[number][:] = packed
            else:
                packed = parts[number]
                self._before.receive_into(packed)
        self._outbox.join()  # TensorFlow may compute in the memory of what it is given
        return total

    @property
    def _sent_as(self) -> "np.dtype[Any]":
        return np.dtype(ml_dtypes.bfloat16 if self.is_compressed else np.float32)

    def _packed(self, part: Array) -> Array:
        return part.astype(self._sent_as, copy=False)

    def _send(self, array: Array) -> None:
        if self._failed is not None:
            raise self._failed
        self._outbox.put(array)

    def _receive(self, count: int, dtype: "np.dtype[Any]") -> Array:
        """Return what arrives, in memory that the next call uses again."""
        if self._scratch.nbytes < count * dtype.itemsize:
            self._scratch = np.empty(count * dtype.itemsize, np.uint8)
        array = self._scratch[: count * dtype.itemsize].view(dtype)
        self._before.receive_into(array)
        return array

    def _post(self) -> None:
        """Send from a separate thread: two processes that both send first would both wait."""
        while (array := self._outbox.get()) is not None:
            try:
                if self._failed is None:
                    self._next.send_array(array)
            except PeerError as error:
                self._failed = error
                self._before.close()  # wakes the main thread
            finally:
                self._outbox.task_done()


class Mpi(Collective):
    """The ranks of `mpirun`; sums are polled, because a blocking one can neither be told why it
    waits nor be woken, and Open MPI burns a core while it waits.
    """

    def __init__(self, team: Team | None, communicator: "MPI.Comm") -> None:
        super().__init__(communicator.Get_rank(), communicator.Get_size(), is_compressed=False)
        self._communicator = communicator
        self._team = team

    def broadcast(self, text: str) -> str:
        """Return rank 0's text to all."""
        return str(self._communicator.bcast(text, root=0))

    def watched_by(self, team: Team) -> None:
        """End every wait when the team fails."""
        self._team = team

    def close(self) -> None:
        """Nothing: the process leaves MPI at its very end, by `leave_mpi`."""

    def _small(self, flat: Array) -> Array:
        total = np.empty_like(flat)
        self._wait_for(self._communicator.Iallreduce(flat, total))
        return total

    def _large(self, flat: Array) -> Array:
        if not self.is_compressed:
            return self._small(flat)
        # MPI has no bfloat16: parts go to their owner, are summed there in float32, come back
        padded = -(-flat.size // self.size) * self.size
        packed = np.zeros(padded, ml_dtypes.bfloat16)
        packed[: flat.size] = flat
        gathered = np.empty_like(packed)
        self._wait_for(
            self._communicator.Ialltoall(packed.view(np.uint16), gathered.view(np.uint16))
        )
        parts = gathered.reshape(self.size, -1)
        own = parts[0].astype(np.float32)
        for part in parts[1:]:
            own += part.astype(np.float32)
        shared = np.empty_like(packed)
        rounded = own.astype(ml_dtypes.bfloat16)
        self._wait_for(
            self._communicator.Iallgather(rounded.view(np.uint16), shared.view(np.uint16))
        )
        return shared[: flat.size].astype(np.float32)

    def _wait_for(self, request: "MPI.Request") -> None:
        spins = 0
        while not request.Test():
            if self._team is not None:
                self._team.check()
            spins += 1
            if spins > _SPINS:
                time.sleep(_POLL_SECONDS)
            else:
                time.sleep(0)


def leave_mpi() -> None:
    """Say to MPI, if this process is in it, that it ends well: else `mpirun` calls it aborted."""
    mpi = sys.modules.get("mpi4py.MPI")
    if mpi is not None and mpi.Is_initialized() and not mpi.Is_finalized():
        mpi.Finalize()
