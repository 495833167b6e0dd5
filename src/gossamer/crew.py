"""The other processes of a run on several devices: started, given orders, ended.

The process that a user started is the driver, rank 0: it does everything that one process does
alone, so that masks, supports, records and decisions are made once. Only a trained stage is done by
all ranks: the crew, ranks 1 to N-1, waits for orders, joins in `fit.train`, and waits again. A
driver starts its crew when the first stage is to be trained, as fresh processes of this module
(never its own command again), and ends it with the run. Where RANK and WORLD_SIZE are set (torchrun
or srun on several machines), the processes are there already: rank 0 drives, the others serve.
"""

from __future__ import annotations

import atexit
import os
import pickle
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from datetime import timedelta
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gossamer.errors import GossamerError, Preempted, StageError

if TYPE_CHECKING:
    from gossamer.fit import Fit, Trained

# A rank that dies is noticed at once, by its closed connections: this only bounds how long the
# others wait for a driver that evaluates in the middle of a stage.
PATIENCE = timedelta(hours=24)
ARRIVAL = timedelta(minutes=30)  # until all processes of a cluster job have started
LEAVE = 20.0  # seconds that a dismissed process has to end by itself
EXPLAIN = 10.0  # … and that a rank has to say why it closed its connections
# What must not reach a process that is not a job: a cluster's, a sweep's and a logger's variables.
FOREIGN = ("SLURM_", "SBATCH_", "SUBMITIT_", "HYDRA_", "OPTUNA_", "WANDB_", "GOSSAMER_", "TORCHEL")
GOODBYE = b"goodbye"


def appointed() -> int:
    """How many ranks a launcher started; 1: none did."""
    return int(os.environ.get("WORLD_SIZE") or 1) if os.environ.get("RANK") else 1


def enlisted() -> bool:
    """Was this process started, by torchrun or the like, to serve another one?"""
    return appointed() > 1 and int(os.environ["RANK"]) > 0


class Crew:
    """Ranks 1 … size-1, as the driver sees them."""

    def __init__(self, size: int) -> None:
        import torch.distributed as dist

        from gossamer.ranks import Ranks

        self.size, self.orders = size, 0
        self.members: dict[int, subprocess.Popen[bytes]] = {}
        if appointed() > 1:
            self.ranks = Ranks.named()
            self.store, _, _ = next(dist.rendezvous("env://", timeout=ARRIVAL))
        else:
            self.ranks = Ranks(0, size, 0, size)
            # a port of the system's choice; the store waits for no one
            self.store = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
            _keep_to_this_machine()
            for rank in range(1, size):
                self.members[rank] = _start(rank, size, self.store.port)
        atexit.register(self.end)

    def train(self, fit: Fit) -> Trained:
        """`fit.train` on all ranks; what the driver got. Raises what it raises, and StageError for
        a rank that failed or was lost."""
        from gossamer import fit as engine

        self.orders += 1
        try:
            self._order(fit)
            _join(self.store, self.ranks, fit.training)
            with _threads(fit.training, self.ranks.local_size):
                return engine.train(replace(fit, ranks=self.ranks))
        except RuntimeError as error:  # torch's word for a broken connection, among others
            if lost := self._lost(fit, _told(error), patience=EXPLAIN):
                raise lost from error
            raise

    def _order(self, fit: Fit) -> None:
        """Hand the stage to the crew, and wait until every rank has read it.

        The model is an object of any class, so it travels as a pickle: through a file that only
        this user may open, written and read by our own processes, and gone when it was read. What
        stays on disk elsewhere holds tensors and plain values only."""
        path = fit.checkpoint.with_name(f"order-{os.getpid()}-{self.orders}.pickle")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with open(descriptor, "wb") as file:
                _write(_silent(fit), file)
            self.store.set(f"order {self.orders}", str(path.resolve()))
            while not self.store.check([f"read {self.orders} {r}" for r in range(1, self.size)]):
                if lost := self._lost(fit, "", patience=0):
                    raise lost
                time.sleep(0.02)
        except OSError as error:
            raise StageError(f"{path}: could not be written: {_line(error)}; make room") from error
        finally:
            path.unlink(missing_ok=True)

    def _lost(self, fit: Fit, own: str, patience: float) -> GossamerError | None:
        """The error of a rank that failed or ended, waited for `patience` seconds; None if there is
        none, or if it is what the driver itself met (`own`)."""
        from gossamer.interruption import interruption

        until = time.monotonic() + patience
        while True:
            for rank in range(1, self.size):
                what = self._note(rank) or _ending(self.members.get(rank))
                if what and interruption.requested:
                    return Preempted(f"stopped by {interruption.requested}; the state is saved")
                if what:
                    return None if what == own else _failure(fit, rank, what)
            if time.monotonic() >= until:
                return None
            time.sleep(0.05)

    def _note(self, rank: int) -> str:
        """What a rank said when it failed."""
        key = f"failed {rank}"
        return self.store.get(key).decode() if self.store.check([key]) else ""

    def end(self) -> None:
        """Send the crew home; what does not go is killed. Nothing of it is left afterwards."""
        import torch.distributed as dist

        atexit.unregister(self.end)
        with suppress(RuntimeError):
            self.store.set(f"order {self.orders + 1}", GOODBYE)
        if dist.is_initialized():
            dist.destroy_process_group()  # ends the wait of those who are in the middle of a step
        until = time.monotonic() + LEAVE
        for member in self.members.values():
            try:
                member.wait(max(0.0, until - time.monotonic()))
            except subprocess.TimeoutExpired:
                member.kill()
                member.wait()
        if not self.members:  # they are not ours, but the store is, and it ends with this process
            gone = [f"gone {rank}" for rank in range(1, self.size)]
            while time.monotonic() < until and not self.store.check(gone):
                time.sleep(0.02)


_standing: list[Crew] = []  # the crew of this process, if it has one


def train(fit: Fit) -> Trained:
    """`fit.train` on all of `trainer.devices`; the crew is started if it is not there."""
    if _standing and _standing[0].size != fit.training.devices:
        dismiss()
    if not _standing:
        _standing.append(Crew(fit.training.devices))
    try:
        return _standing[0].train(fit)
    except BaseException:  # the ranks are not at one point any more
        dismiss()
        raise


def dismiss() -> None:
    """End the crew of this process."""
    while _standing:
        _standing.pop().end()


@contextmanager
def dismissed() -> Iterator[None]:
    """Whatever happens in the block, no crew is left after it: not the processes that were started
    for it, nor those that a cluster started and that the block had no use for."""
    try:
        yield
    finally:
        if appointed() > 1 and not enlisted() and not _standing:
            _standing.append(Crew(appointed()))
        dismiss()


def serve() -> int:
    """Be the rank that the environment names until the driver says goodbye; the exit status.

    An error is told to the driver, which fails with it. A bug keeps its traceback."""
    import torch.distributed as dist

    from gossamer.interruption import interruption
    from gossamer.ranks import Ranks

    ranks = Ranks.named()
    store, _, _ = next(dist.rendezvous("env://", timeout=ARRIVAL))
    order, path = 0, b""
    try:
        with interruption:  # a signal that reaches one rank stops them all after the same step
            for order in count(1):
                store.wait([f"order {order}"], PATIENCE)
                path = store.get(f"order {order}")
                if path == GOODBYE:
                    break
                with suppress(Preempted):
                    _obey(store, ranks, order, Path(path.decode()))
                interruption.requested = None
    except BaseException as error:
        with suppress(RuntimeError):  # the driver may be gone, which is why this one failed
            if not store.check([f"order {order + 1}"]):
                store.set(f"failed {ranks.rank}", _told(error))
                if not isinstance(error, GossamerError):
                    traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)  # at once: connections that close tell the others not to wait
    if dist.is_initialized():
        dist.destroy_process_group()
    store.set(f"gone {ranks.rank}", "")
    return 0


def _obey(store: Any, ranks: Any, order: int, path: Path) -> None:
    from gossamer import fit as engine
    from gossamer.run import prepare_torch

    fit = _read(path)
    store.set(f"read {order} {ranks.rank}", "")
    prepare_torch(fit.training)
    _join(store, ranks, fit.training)
    with _threads(fit.training, ranks.local_size):
        engine.train(replace(fit, ranks=ranks))


def _read(path: Path) -> Fit:
    """The order in a file, which must be this user's own and no one else's to write: it is a pickle
    (see `Crew._order`)."""
    import torch

    with path.open("rb") as file:
        found = os.fstat(file.fileno())
        if found.st_uid != os.getuid() or found.st_mode & 0o077:
            raise StageError(f"{path}: not a file of the driver's; it is not read")
        return torch.load(file, map_location="cpu", weights_only=False)


def _write(fit: Fit, file: Any) -> None:
    import torch

    try:
        torch.save(fit, file)
    except (pickle.PicklingError, AttributeError, TypeError, RuntimeError) as error:
        raise StageError(
            f"stage {fit.stage.name}: cannot be sent to other processes: {_line(error)}; "
            "train in one process: trainer=default"
        ) from error


def _silent(fit: Fit) -> Fit:
    """The stage as the crew has it: nobody there logs, evaluates or compares."""
    return replace(
        fit,
        log=_nothing,
        rewind=_nothing,
        better=_nothing,
        advance=_nothing,
        validate=None if fit.validate is None else _nothing,
    )


def _nothing(*_: Any) -> Any:
    """In the place of the driver's callables."""


def _join(store: Any, ranks: Any, training: Any) -> None:
    """Make this rank's process group, once."""
    import torch
    import torch.distributed as dist

    if dist.is_initialized():
        return
    cuda = training.device().type == "cuda"
    if cuda:
        torch.cuda.set_device(ranks.local_rank)
    dist.init_process_group(
        "cpu:gloo,cuda:nccl" if cuda else "gloo",
        store=dist.PrefixStore("group", store),
        rank=ranks.rank,
        world_size=ranks.size,
        timeout=PATIENCE,
    )


@contextmanager
def _threads(training: Any, share: int) -> Iterator[None]:
    """This rank's part of the machine's threads, unless the trainer says how many."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(training.threads or max(1, before // share))
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _start(rank: int, size: int, port: int) -> subprocess.Popen[bytes]:
    own = {key: value for key, value in os.environ.items() if not key.startswith(FOREIGN)}
    own |= {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(size),
        "LOCAL_WORLD_SIZE": str(size),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "TORCH_CPP_LOG_LEVEL": os.environ.get("TORCH_CPP_LOG_LEVEL", "ERROR"),
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
    }
    command = [sys.executable, "-P", "-m", "gossamer.crew", str(os.getpid())]
    return subprocess.Popen(command, env=own, stdin=subprocess.DEVNULL)


def _keep_to_this_machine() -> None:
    """Gloo would ask for the host's name, which need not be resolvable."""
    if sys.platform == "linux":
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")


def _ending(member: subprocess.Popen[bytes] | None) -> str:
    """How a process ended; "" while it runs."""
    status = None if member is None else member.poll()
    if status is None:
        return ""
    if status < 0:
        return f"killed by {signal.Signals(-status).name}"
    return f"ended with exit status {status}"


def _failure(fit: Fit, rank: int, what: str) -> StageError:
    return StageError(
        f"stage {fit.stage.name}: rank {rank} of {fit.training.devices} failed: {what}; what was "
        "saved before is intact: the same command goes on from there"
    )


def _line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]


def _told(error: BaseException) -> str:
    """An error in one line; of a bug, which is not written for users, with its kind."""
    line = _line(error)
    return line if isinstance(error, GossamerError) else f"{type(error).__name__}: {line}"


def _leave_with(driver: int) -> None:
    """End this process when its driver is gone, however that came about."""
    while os.getppid() == driver:
        time.sleep(0.2)
    os._exit(1)


def main(argv: list[str]) -> int:
    from gossamer.interruption import Interruption

    for number in Interruption.SIGNALS:  # until `serve` listens: the driver decides what they mean
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_leave_with, args=(int(argv[0]),), daemon=True).start()
    return serve()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
