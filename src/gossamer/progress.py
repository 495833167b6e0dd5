"""What a person at the terminal sees while a run works: one bar for each stage, or lines in a
log."""

import sys
import time
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


class Display:
    """Bars on a terminal; elsewhere one line when a stage begins, every tenth of it, and at its
    end."""

    def __init__(self, training: Any) -> None:
        self.enabled = training.progress
        self.live = self.enabled and sys.stderr.isatty()
        self.console = Console(stderr=True)
        self.bars = Progress(
            TextColumn("{task.description:<24}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("loss {task.fields[loss]}"),
            TimeRemainingColumn(compact=True, elapsed_when_finished=True),
            console=self.console,
        )
        self.task: Any = None
        self.steps = 0
        self.told = 0
        self.began = 0.0

    def __enter__(self) -> "Display":
        if self.live:
            self.bars.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.live:
            self.bars.stop()

    def say(self, text: str) -> None:
        if self.enabled:
            self.console.print(text, highlight=False, markup=False)

    def begin(self, name: str, steps: int) -> None:
        """A stage of `steps` steps begins; 0 steps: something without steps."""
        self.steps, self.told, self.began = steps, 0, time.perf_counter()
        self.name = name
        if self.live and steps:
            self.task = self.bars.add_task(name, total=steps, loss="")
        else:
            self.task = None
            self.say(f"{name}: {steps} steps" if steps else f"{name} …")

    def advance(self, step: int, loss: float) -> None:
        if self.task is not None:
            self.bars.update(self.task, completed=step, loss=f"{loss:.3f}")
        elif self.steps and step * 10 // self.steps > self.told:
            self.told = step * 10 // self.steps
            seconds = time.perf_counter() - self.began
            self.say(f"{self.name}: step {step}/{self.steps}, loss {loss:.3f}, {seconds:.0f} s")

    def end(self, row: dict[str, Any]) -> None:
        """A stage is done; `row` is what the record will say about it."""
        name, value = next(iter(row["quality_after"].items()))
        before = row["quality_before"][name]
        self.say(
            f"{row['name']}: done in {row['seconds']:.1f} s; "
            f"validation {name} {before:.4f} -> {value:.4f}"
        )
