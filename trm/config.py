"""Strict, frozen configuration: an unknown key is an error that names the nearest known one."""

from __future__ import annotations

import difflib
import math
import tomllib
from collections.abc import Sequence
from dataclasses import MISSING, asdict, fields, is_dataclass
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

T = TypeVar("T")


class ConfigError(ValueError):
    """A configuration that cannot be meant. The message says file, section, key and what was expected."""


def apply_override(raw: dict[str, Any], text: str) -> None:
    key, equals, value = text.partition("=")
    section, dot, name = key.strip().partition(".")
    if not (equals and dot and name):
        raise ConfigError(f"override {text!r}: expected section.key=value")
    try:
        parsed: Any = tomllib.loads(f"v = {value}")["v"]
    except tomllib.TOMLDecodeError:
        parsed = value.strip()
    *parents, leaf = name.split(".")
    table: Any = raw
    for parent in (section, *parents):
        table = table.setdefault(parent, {})
        if not isinstance(table, dict):
            raise ConfigError(f"override {text!r}: {parent} is a value, expected section.key=value")
    table[leaf] = parsed


def from_dict(cls: type[T], raw: dict[str, Any], where: str = "config", section: str = "") -> T:
    """Build a frozen dataclass from plain data, refusing unknown keys and wrong types."""
    hints = get_type_hints(cls)
    known = {f.name: f for f in fields(cls)}  # type: ignore[arg-type]
    prefix = f"{where} [{section}]: " if section else f"{where}: "
    for key in raw:
        if key not in known:
            close = difflib.get_close_matches(key, known, n=1)
            hint = f"; did you mean '{close[0]}'?" if close else f"; known: {', '.join(known)}"
            raise ConfigError(f"{prefix}unknown '{key}'{hint}")
    for name, f in known.items():
        if f.default is MISSING and f.default_factory is MISSING and name not in raw:
            raise ConfigError(f"{prefix}'{name}' is missing")
    values = {
        name: _convert(value, hints[name], where, f"{section}.{name}" if section else name)
        for name, value in raw.items()
    }
    return cls(**values)


def check_choices(config: Any, where: str) -> None:
    """Refuse words that a field does not know, also where a configuration is made in Python."""
    for name, hint in get_type_hints(type(config)).items():
        if get_origin(hint) is Literal:
            _convert(getattr(config, name), hint, where, name)


def check_range(
    config: Any, where: str, names: Sequence[str], most: float = math.inf, least: int = 0
) -> None:
    for name in names:
        value = getattr(config, name)
        if not least <= value <= most or value == math.inf:
            expected = f"at least {least}" if most == math.inf else f"{least} to {most}"
            raise ConfigError(f"{where} {name}: {value}, expected {expected}")


def _convert(value: Any, hint: Any, where: str, key: str) -> Any:
    if is_dataclass(hint):
        if not isinstance(value, dict):
            raise ConfigError(f"{where}: '{key}' must be a table")
        return from_dict(hint, value, where, key)  # type: ignore[arg-type]
    origin = get_origin(hint)
    if origin is Literal:
        if value not in get_args(hint) or isinstance(value, bool):  # True equals 1
            raise ConfigError(
                f"{where}: {key} = {value!r}, expected one of {', '.join(map(repr, get_args(hint)))}"
            )
        return value
    if origin is tuple:
        if not isinstance(value, list | tuple) or len(value) != len(get_args(hint)):
            raise ConfigError(f"{where}: {key} = {value!r}, expected {len(get_args(hint))} numbers")
        return tuple(_convert(v, float, where, key) for v in value)
    expected = origin or hint
    if expected is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, expected) or (expected is int and isinstance(value, bool)):
        raise ConfigError(f"{where}: {key} = {value!r}, expected {getattr(expected, '__name__', expected)}")
    return value


def to_dict(config: Any) -> dict[str, Any]:
    """Plain data for JSON and checkpoints."""
    return asdict(config)
