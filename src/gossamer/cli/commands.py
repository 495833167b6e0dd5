"""The subcommands. Each imports what it needs when it is called, and has its own --help."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from pathlib import Path

from gossamer.errors import DONE, ConfigError

FORMATS = ("table", "csv", "json", "markdown")
GROUPS = ("models", "datasets", "compressions", "tasks", "experiments")


def call(command: str, argv: Sequence[str]) -> int:
    """Parse a subcommand's arguments and do it; the exit status. argparse itself exits with 2."""
    args = PARSERS[command]().parse_args(list(argv))
    return CALLS[command](args)


def plan_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "gossamer plan",
        description="Check a run, or every job of a sweep, before a weight is allocated, and say "
        "what it would do. All problems at once, one line each; exit status 2.",
    )
    parser.add_argument("overrides", nargs="*", help="as for a run: model=minilm trainer.steps=300")
    parser.add_argument("-m", "--multirun", action="store_true", help="plan each job of a sweep")
    _tree_options(parser)
    return parser


def _tree_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-cp", "--config-path", help="another config tree, instead of the shipped one"
    )
    parser.add_argument("-cn", "--config-name", help="another primary config in it")
    parser.add_argument("-cd", "--config-dir", help="a folder with more choices")


def plan(args: argparse.Namespace) -> int:
    from gossamer.cli.check import examine
    from gossamer.cli.freeze import freeze
    from gossamer.cli.overrides import spell

    args.overrides = spell(args.overrides)
    command = examine(args)
    if command.problems:
        raise ConfigError(*command.problems)
    from gossamer.plan import plan as second_pass

    problems: list[str] = []
    for job in command.jobs:
        if len(command.jobs) > 1:
            print(f"== {' '.join(job.overrides)}")
        try:
            print(second_pass(freeze(job)))
        except ConfigError as error:
            problems += [problem for problem in error.problems if problem not in problems]
    if problems:
        raise ConfigError(*problems)
    return DONE


def list_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "gossamer list", description="The choices, one line each, with what goes with what."
    )
    parser.add_argument("groups", nargs="*", metavar="GROUP", help=" | ".join(GROUPS))
    parser.set_defaults(overrides=[])
    _tree_options(parser)
    return parser


def list_choices(args: argparse.Namespace) -> int:
    from gossamer.cli.listing import listing
    from gossamer.cli.suggest import did_you_mean

    for group in args.groups:
        if group not in GROUPS:
            raise ConfigError(
                f"{group}: no such list{did_you_mean(group, GROUPS)}; there are {', '.join(GROUPS)}"
            )
    from gossamer.cli.check import open_tree

    print(listing(open_tree(args), args.groups or GROUPS))
    return DONE


def resume_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "gossamer resume",
        description="Go on with a run that was cut off, from its last finished unit or checkpoint.",
    )
    parser.add_argument("run", metavar="RUN", type=Path, help="the run's directory")
    return parser


def resume(args: argparse.Namespace) -> int:
    directory = _run_directory(args.run)
    from gossamer.run import resume

    return resume(directory)


def bench_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "gossamer bench",
        description="Measure a finished run's model and its twin again, on this device.",
    )
    parser.add_argument("run", metavar="RUN", type=Path, help="the run's directory")
    parser.add_argument(
        "--batch",
        type=_sizes,
        default=(1, 32),
        metavar="1,8,32",
        help="batch sizes (default: 1,32)",
    )
    parser.add_argument(
        "--device", type=_device, default="cpu", help="cpu, cuda, cuda:1, mps (default: cpu)"
    )
    return parser


def _sizes(text: str) -> tuple[int, ...]:
    sizes = tuple(int(each) for each in text.split(","))
    if not sizes or min(sizes) < 1:
        raise argparse.ArgumentTypeError("batch sizes are whole numbers from 1, by commas: 1,8,32")
    return sizes


def _device(text: str) -> str:
    if not re.fullmatch(r"cpu|mps|cuda(:\d+)?", text):
        raise argparse.ArgumentTypeError(f"{text}: a device is cpu, cuda, cuda:1 or mps")
    return text


def bench(args: argparse.Namespace) -> int:
    directory = _run_directory(args.run)
    from gossamer.run import bench

    return bench(directory, args.batch, args.device)


def _run_directory(path: Path) -> Path:
    """The directory of a run, also if its record or config was named. Raises ConfigError."""
    directory = path if path.is_dir() else path.parent
    if not path.exists():
        raise ConfigError(f"RUN={path}: no such directory; gossamer compare outputs lists the runs")
    if not (directory / "config.yaml").is_file():
        raise ConfigError(
            f"RUN={path}: has no config.yaml; a run's directory is "
            "outputs/<name>/<digest>/seed<k>, gossamer compare outputs lists them"
        )
    return directory


def compare_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "gossamer compare", description="One table over the records found under any paths."
    )
    parser.add_argument("paths", nargs="+", metavar="PATH", help="directories or record.json files")
    parser.add_argument(
        "--format", choices=FORMATS, default="table", help="how to print it (default: table)"
    )
    return parser


def compare(args: argparse.Namespace) -> int:
    from gossamer.records.compare import main

    for path in args.paths:
        if not Path(path).exists():
            raise ConfigError(f"PATH={path}: no such file or directory")
    return main(args.paths, args.format)


PARSERS = {
    "plan": plan_parser,
    "list": list_parser,
    "resume": resume_parser,
    "bench": bench_parser,
    "compare": compare_parser,
}
CALLS = {
    "plan": plan,
    "list": list_choices,
    "resume": resume,
    "bench": bench,
    "compare": compare,
}
