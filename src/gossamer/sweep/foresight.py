"""What can only be known with the task and the data at hand: the second pass of `plan` over the
corners of a search, and the metric and direction of its quality.

python -m gossamer.sweep.foresight IN OUT, in a process of its own: the driver of a search needs no
torch. IN has one resolved configuration per line of JSON, OUT gets one answer for each.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from gossamer.errors import ConfigError, GossamerError, StageError


def foresee(
    configs: Sequence[Mapping[str, Any]], environment: Mapping[str, str]
) -> tuple[str, str]:
    """(primary metric, direction) that all of `configs` have. Raises ConfigError with what is wrong
    with them."""
    with tempfile.TemporaryDirectory() as folder:
        asked, answered = Path(folder, "in"), Path(folder, "out")
        asked.write_text("".join(json.dumps(each) + "\n" for each in configs), encoding="utf-8")
        ended = subprocess.run(
            [sys.executable, "-P", "-m", "gossamer.sweep.foresight", str(asked), str(answered)],
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
        )
        if ended.returncode:
            raise StageError(f"the check before the search broke off:\n{ended.stderr.strip()}")
        answers = [json.loads(line) for line in answered.read_text(encoding="utf-8").splitlines()]
    problems = [problem for each in answers for problem in each["problems"]]
    if problems:
        raise ConfigError(*dict.fromkeys(problems))
    aims = {tuple(each["primary"]) for each in answers}
    if len(aims) > 1:
        names = ", ".join(f"{name} ({direction})" for name, direction in sorted(aims))
        raise ConfigError(
            f"hydra.sweeper.objectives: quality is not one metric in this search but {names}; "
            "fix task and dataset, or their metric"
        )
    ((name, direction),) = aims
    return name, direction


def _answer(config: Mapping[str, Any]) -> dict[str, Any]:
    from gossamer import plan

    try:
        experiment = plan.checked(config)
    except ConfigError as error:
        return {"problems": list(error.problems)}
    except GossamerError as error:
        return {"problems": str(error).splitlines()}
    return {"problems": [], "primary": experiment.task.primary(experiment.data.info)}


def main(asked: str, answered: str) -> None:
    lines = Path(asked).read_text(encoding="utf-8").splitlines()
    answers = [_answer(json.loads(line)) for line in lines]
    Path(answered).write_text("".join(json.dumps(each) + "\n" for each in answers))


if __name__ == "__main__":
    main(*sys.argv[1:])
