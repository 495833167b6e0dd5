"""Signals that ask a run to stop: it finishes its step or unit, saves, and says how to go on."""

import signal
from types import FrameType

from gossamer.errors import Preempted


class Interruption:
    """Turns SIGTERM, SIGINT and the cluster's SIGUSR signals into a request to stop after the
    step."""

    SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2)

    def __init__(self) -> None:
        self.requested: str | None = None

    def __enter__(self) -> "Interruption":
        self._before = {number: signal.getsignal(number) for number in self.SIGNALS}
        for number in self.SIGNALS:
            signal.signal(number, self._request)
        return self

    def _request(self, number: int, frame: FrameType | None) -> None:
        if self.requested and number == signal.SIGINT:  # the second Ctrl-C means now
            raise KeyboardInterrupt
        self.requested = signal.Signals(number).name

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def check(self, where: str) -> None:
        if self.requested:
            raise Preempted(f"stopped by {self.requested} {where}; the state is saved")


interruption = Interruption()
