"""Overrides of keys (trainer.lr=1e-4): does the key exist, and does the value go in?"""

from __future__ import annotations

from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.override_parser.types import Override
from omegaconf import DictConfig, ListConfig, OmegaConf

from gossamer.cli.choices import choosing
from gossamer.cli.overrides import naming, typed
from gossamer.cli.schema import Signature, signature
from gossamer.cli.suggest import did_you_mean, line, one_of
from gossamer.cli.tree import SEVERAL, Tree
from gossamer.cli.validate import SPECIAL, unusable


def apply(override: Override, config: DictConfig, tree: Tree) -> str | None:
    """Put one override into the composed config; the line that says why not, or None."""
    key, value = override.key_or_group, override.value()

    def wrong(message: str) -> str:
        return line(naming(override), typed(override), message)

    if not key:
        return wrong("the key before '=' is missing; an override is key=value")
    if override.package is not None or "/" in key:
        near = did_you_mean(key, tree.slots)
        return wrong(f"no such group{near}; there are {one_of(tree.slots)}")
    parent, missing = _walk(config, key)
    if missing is not None:
        bare = not (override.is_add() or override.is_force_add())
        if override.is_delete() or not _takes(config, key, parent):
            return wrong(_unknown(key, config, tree))
        if bare:
            added = f"+{key}={typed(override) or ''}"
            return wrong(f"a new entry of {parent} is added with +: {added}")
    elif override.is_delete() and key in (*tree.root, *tree.slots):
        return wrong("every run has this key; set it instead of removing it")
    elif override.is_add() and not isinstance(value, (dict, list)):
        return wrong(f"the key has a value already; write {key}={typed(override) or ''}")
    if isinstance(value, dict) and (stray := _stray(key, value, config, tree)):
        return stray
    try:
        ConfigLoaderImpl._apply_overrides_to_config([override], config)
    except Exception as error:  # Hydra and OmegaConf know a dozen ways to refuse a value
        return wrong(_reason(error))
    return _hydra_problem(override, config) if key.startswith("hydra.") else None


def has(config: DictConfig, key: str) -> bool:
    """Is `key` in the composed config, or may it be added where it is?"""
    parent, missing = _walk(config, key)
    return missing is None or _takes(config, key, parent)


def _hydra_problem(override: Override, config: DictConfig) -> str | None:
    """Hydra resolves its own settings late and with a traceback, and calls what they name."""
    from gossamer.targets import allowed

    def wrong(message: str) -> str:
        return line(naming(override), typed(override), message)

    try:
        value = OmegaConf.select(config, override.key_or_group, throw_on_missing=False)
    except Exception as error:
        return wrong(f"cannot be resolved: {_reason(error)}")
    for target in _targets(override.key_or_group, value):
        if not allowed(target) and not target.startswith(("hydra.", "hydra_plugins.")):
            return wrong(
                f"{target} is not on the allow-list; set GOSSAMER_ALLOW_TARGETS to trust it"
            )
    if override.key_or_group in ("hydra.run.dir", "hydra.sweep.dir"):
        problem = unusable(str(value))
        return wrong(problem) if problem else None
    return None


def _targets(key: str, value: Any) -> list[str]:
    """The targets in a value of hydra's own configuration."""
    if isinstance(value, DictConfig):
        keys = [name for name in value if not OmegaConf.is_missing(value, name)]
        return [each for name in keys for each in _targets(str(name), value._get_node(name))]
    if isinstance(value, ListConfig):
        return [each for item in value for each in _targets("", item)]
    plain = getattr(value, "_value", lambda: value)()
    return [plain] if key.rpartition(".")[2] == "_target_" and isinstance(plain, str) else []


def _stray(key: str, value: dict[Any, Any], config: DictConfig, tree: Tree) -> str | None:
    """The first unknown key inside a mapping given as one value: trainer={stepz: 3}."""
    for name, inner in value.items():
        path = f"{key}.{name}"
        parent, missing = _walk(config, path)
        if missing is not None and not _takes(config, path, parent):
            return line(path, str(inner), _unknown(path, config, tree))
        if isinstance(inner, dict) and (found := _stray(path, inner, config, tree)):
            return found
    return None


def _walk(config: DictConfig, key: str) -> tuple[str, str | None]:
    """(the deepest ancestor that exists, the first part of the key that does not)."""
    found: Any = config
    done: list[str] = []
    for part in _parts(key):
        inside = False
        if isinstance(found, DictConfig) and not _is_special(found):
            inside = part in dict(found._content)  # type: ignore[arg-type]  # also for keys whose value is ??? or null
        elif isinstance(found, ListConfig) and not found._is_none():
            inside = part.isdecimal() and int(part) < len(found)
        if not inside:
            return ".".join(done), part
        found = found._get_node(int(part) if isinstance(found, ListConfig) else part)
        done.append(part)
    return ".".join(done), None


def _parts(key: str) -> list[str]:
    return key.replace("[", ".").replace("]", "").split(".")


def _takes(config: DictConfig, key: str, parent: str) -> bool:
    """May `key`, which is not listed, be added below `parent`? In free mappings, and where it is an
    argument that the YAML file left out."""
    parts = _parts(key)
    if parts[0] == "hydra":
        return _hydra_takes(config, parent)
    for depth in range(len(parts) - 1, 0, -1):
        above = OmegaConf.select(config, ".".join(parts[:depth]), throw_on_missing=False)
        if not isinstance(above, DictConfig) or "_target_" not in above:
            continue
        known = _signature(above)
        if known is None:
            return False
        name, below = parts[depth], parts[depth + 1 :]
        if name not in known.arguments:
            return known.open or (name in SPECIAL and not below)
        kinds = {member.kind for member in known.arguments[name].accepts.members()}
        return not below or bool(kinds & {"mapping", "any"})
    return False


def _hydra_takes(config: DictConfig, parent: str) -> bool:
    above = OmegaConf.select(config, parent, throw_on_missing=False)
    if above is None:  # an optional Dict[str, …] that is null, e.g. hydra.sweeper.params
        return True
    free = isinstance(above, DictConfig) and OmegaConf.get_type(above) is dict
    return free and "_target_" not in above and parent != "hydra"


def _signature(node: DictConfig) -> Signature | None:
    target = node._get_node("_target_")
    value = getattr(target, "_value", lambda: None)()
    return signature(value) if isinstance(value, str) else None


def _unknown(key: str, config: DictConfig, tree: Tree) -> str:
    """'no such key', with the nearest one, where else it exists, and what is there."""
    hydra = key == "hydra" or key.startswith("hydra.")
    names = flatten(config.hydra if hydra else config, "hydra." if hydra else "")
    top = key.partition(".")[0]
    chosen = config.get(SEVERAL) or {}
    elsewhere = choosing(key, tree, chosen)
    hint = elsewhere or did_you_mean(key, [*names, *([] if hydra else tree.slots)])
    parent, _ = _walk(config, key)
    inside = OmegaConf.select(config, parent, throw_on_missing=False) if parent else config
    if isinstance(inside, DictConfig):
        listed = [str(name) for name in inside if name not in ("hydra", "_target_")]
        there = f"{parent} has {one_of(listed)}" if parent else f"there are {one_of(listed)}"
    elif top == key:
        there = f"there are {one_of([*tree.slots, *tree.root])}"
    else:
        there = f"{parent} holds one value"
    return f"no such key{hint}; {there}"


def flatten(config: DictConfig, prefix: str = "") -> list[str]:
    """Every dotted key of a config, but not hydra's own; hydra._target_ and the like neither."""
    names: list[str] = []
    for key in config:
        if not isinstance(key, str) or (not prefix and key == "hydra") or key == "_target_":
            continue
        names.append(prefix + key)
        inner = config._get_node(key)
        if isinstance(inner, DictConfig) and not _is_special(inner):
            names += flatten(inner, f"{prefix}{key}.")
    return names


def _is_special(node: DictConfig) -> bool:
    return node._is_none() or node._is_missing() or node._is_interpolation()


def _reason(error: Exception) -> str:
    """What OmegaConf says is wrong, without the coordinates it adds, on one line."""
    cause = error.__cause__ or error
    text = (str(cause).strip() or type(cause).__name__).splitlines()[0]
    return text[:1].lower() + text[1:]
