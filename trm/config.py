"""Strict, frozen configuration dataclasses: an unknown key is an error that names the nearest known key."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from trm.text import DEEPEST, parse_toml, printable

T = TypeVar("T")


class ConfigError(ValueError):
    """A configuration that cannot be used. The message names file, section and key, and what was expected."""


def read_toml(path: Path) -> dict[str, Any]:
    """The tables of a TOML file. Raises ConfigError where it cannot be read or is no TOML."""
    try:
        return parse_toml(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror or error}") from None
    except ValueError as error:  # no TOML, or not text
        raise ConfigError(f"{path}: {error}") from None


def apply_override(raw: dict[str, Any], text: str) -> None:
    """Set one value in `raw`, from `section.key=value`; the value is TOML, or else a plain string."""
    key, equals, value = text.partition("=")
    section, dot, name = key.strip().partition(".")
    if not (equals and dot and name) or name.count(".") > DEEPEST:
        raise ConfigError(f"override {text!r}: expected section.key=value")
    try:
        parsed: Any = parse_toml(f"v = {value}")["v"]
    except ValueError:
        parsed = value.strip()
    *parents, leaf = name.split(".")
    table: Any = raw
    for parent in (section, *parents):
        table = table.setdefault(parent, {})
        if not isinstance(table, dict):
            raise ConfigError(f"override {text!r}: {parent} is a value, expected section.key=value")
    table[leaf] = parsed


def from_dict(cls: type[T], raw: Mapping[str, Any], where: str = "config", section: str = "") -> T:
    """Build a frozen dataclass, and those within it, from plain data.

    Args:
        where: file that the data came from, which error messages begin with.
        section: table within that file; empty for the whole file.

    Raises:
        ConfigError: unknown or missing key, wrong type, or a value that the dataclass itself refuses.
    """
    hints = get_type_hints(cls)
    known = {f.name: f for f in fields(cls)}  # type: ignore[arg-type]
    prefix = f"{where} [{section}]: " if section else f"{where}: "
    for key in raw:
        if key not in known:
            close = difflib.get_close_matches(key, known, n=1)
            hint = f"did you mean '{close[0]}'?" if close else f"known: {', '.join(known)}"
            raise ConfigError(f"{prefix}unknown '{printable(key)}'; {hint}")
    for name, f in known.items():
        if f.default is MISSING and f.default_factory is MISSING and name not in raw:
            raise ConfigError(f"{prefix}'{name}' is missing")
    parents = f"{section}." if section else ""
    return cls(**{name: _convert(value, hints[name], where, parents + name) for name, value in raw.items()})


def check_choices(config: object, where: str) -> None:
    """Raise ConfigError where a field holds none of its Literal's words; covers values set in Python too."""
    for name, hint in get_type_hints(type(config)).items():
        if get_origin(hint) is Literal:
            _convert(getattr(config, name), hint, where, name)


def check_range(
    config: object, where: str, names: Sequence[str], most: float = math.inf, least: int = 0
) -> None:
    """Raise ConfigError where a named field is not from `least` to `most`; infinity and NaN never are."""
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
    origin, arguments = get_origin(hint), get_args(hint)
    expected = getattr(origin or hint, "__name__", str(hint))
    if origin is Literal:
        expected = f"one of {', '.join(map(repr, arguments))}"
        fits = value in arguments and not isinstance(value, bool)  # True equals 1
    elif origin is tuple:
        expected = f"{len(arguments)} numbers"
        if fits := isinstance(value, list | tuple) and len(value) == len(arguments):
            return tuple(_convert(v, float, where, key) for v in value)
    elif hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    else:
        fits = isinstance(value, origin or hint) and not (hint is int and isinstance(value, bool))
    if not fits:
        raise ConfigError(f"{where}: {key} = {value!r}, expected {expected}")
    return value
