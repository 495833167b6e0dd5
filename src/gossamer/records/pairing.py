"""Each run's partner: the baseline's run of the same seed, model, data, task and budget."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from gossamer.errors import ConfigError
from gossamer.records.grouping import Group, Note, gathered, varying
from gossamer.records.runs import Identity, Key, Run, apart, expect, key_names, one_of

CHOSEN = 4  # of a place's pairs: the seed and the choices


@dataclass(frozen=True)
class Reference:
    wanted: Mapping[str, str]  # key -> value, as typed
    runs: Mapping[Run, None]  # that have these values, in order

    @property
    def words(self) -> str:
        return " ".join(f"{key}={value}" for key, value in self.wanted.items())


def baseline(texts: Sequence[str], every: Sequence[Run], where: str = "") -> Reference:
    """The runs that `key=value` words select. Raises ConfigError if there are none."""
    wanted = {}
    for word in texts:
        key, equals, value = word.partition("=")
        if not equals or not key:
            raise ConfigError(f"--baseline {word}: type key=value, e.g. compression=none")
        wanted[key] = value
    expect("--baseline", list(wanted), key_names(every), "key")
    chosen = [
        run for run in every if all(_means(run.keys.get(key), text) for key, text in wanted.items())
    ]
    if not chosen:
        seen = {key: dict.fromkeys(run.keys.get(key) for run in every) for key in wanted}
        told = "; ".join(f"{key} is {one_of(values)}" for key, values in seen.items())
        raise ConfigError(
            f"--baseline {' '.join(texts)}: no finished run "
            f"{'of which --where is true' if where else 'here'} has that ({told}); name one that "
            "is there, or give the folder of the baseline's runs as a further PATH"
        )
    return Reference(wanted, dict.fromkeys(chosen))


def _means(value: Key, text: str) -> bool:
    """Whether a word on the command line names a key's value: 1e-3 is 0.001, [a,b] is a+b."""
    if value is None or isinstance(value, bool):
        return text.lower() == {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, str):
        plain = text.strip("[]").replace(" ", "")
        return (
            value in (text, plain.replace(",", "+"))
            or value.strip("[]").replace(" ", "").replace('"', "") == plain
        )
    try:
        return float(text) == value
    except ValueError:
        return False


def partners(rows: Sequence[Group], against: Reference) -> tuple[dict[Run, Run], list[str]]:
    """Each run's partner among the baseline's runs, and notes on those without one.

    Where several could be it, the one that is configured as the run is, in whatever they differ in;
    if that does not tell either, there is none."""
    candidates: dict[Identity, list[Run]] = defaultdict(list)
    places: dict[Identity, dict[Identity, None]] = defaultdict(dict)  # of the same choices and seed
    for run in against.runs:
        candidates[place := _place(run, against.wanted)].append(run)
        places[place[:CHOSEN]][place] = None
    differing = {place: list(varying(several)) for place, several in candidates.items()}
    configured: dict[tuple[Identity, tuple[Key, ...]], list[Run]] = defaultdict(list)
    for place, several in candidates.items():
        for run in several:
            configured[place, _values(run, differing[place])].append(run)
    words = against.words
    found: dict[Run, Run] = {}
    notes: list[Note] = []
    for row in rows:
        without: dict[str, list[int]] = defaultdict(list)  # why -> seeds
        for run in row.runs:
            if run in against.runs:
                continue
            place = _place(run, against.wanted)
            names = differing.get(place, [])
            near = configured.get((place, _values(run, names)), [])
            if len(near) == 1:
                found[run] = near[0]
            elif near:
                without[f"{len(near)} runs with {words} are alike; choose with --where"].append(
                    run.record.seed
                )
            elif names:
                without[
                    f"of several runs with {words} none has its {' and '.join(names)}; add "
                    f"{names[0]}=… to --baseline"
                ].append(run.record.seed)
            else:
                alike = places.get(place[:CHOSEN], ())
                other = min(alike, key=lambda each: len({*each} ^ {*place}), default=None)
                what = apart([place, other]) if other else "model, data set, task, budget and seed"
                without[f"no run with {words} has the same {what}"].append(run.record.seed)
        notes += [
            ("no partner: ", row.title, f", {_seeds(seeds)}: {why}")
            for why, seeds in without.items()
        ]
    return found, gathered(notes)


def _values(run: Run, names: Sequence[str]) -> tuple[Key, ...]:
    return tuple(run.keys.get(name) for name in names)


def _place(run: Run, wanted: Mapping[str, str]) -> Identity:
    """What must be equal in two runs before their figures may be subtracted; the choices first."""
    record = run.record
    choices, budget, quality = record.choices, record.budget, record.quality
    named = any(key.split(".")[0] == "model" for key in wanted)
    return (
        ("seed", record.seed),
        ("model", None if named else choices.model),
        ("dataset", choices.dataset),
        ("task", choices.task),
        ("budget.total", budget.total),
        ("budget.start", budget.start),
        ("compute.workload", record.compute.workload),
        ("metric", quality.primary),
        ("direction", quality.direction),
        *run.data,
        *(() if named else run.model),
    )


def _seeds(numbers: Sequence[int]) -> str:
    return f"seed{'s' * (len(numbers) > 1)} {one_of(sorted(set(numbers)))}"
