"""What is wrong with a request, as other messages say it: where, what was found, what was expected."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request

from hybrid.serve.guard import error_body
from trm.grid import shorten

LONGEST_VALUE = 40  # characters of a value that a message quotes
# Kinds of pydantic's errors, and what was expected; the braces are filled with the error's context.
_TYPES = {
    "string_type": "text",
    "dict_type": "an ARC task as an object",
    "list_type": "a list",
    "int_type": "an integer",
    "float_type": "a number",
    "bool_type": "true or false",
    "model_type": "an object",
    "model_attributes_type": "an object",
}
_LIMITS = {
    "greater_than": "more than {gt:g}",
    "greater_than_equal": "at least {ge}",
    "less_than": "less than {lt}",
    "less_than_equal": "at most {le}",
    "finite_number": "a finite number",
    "string_unicode": "valid Unicode",
    "literal_error": "one of {expected}",
    "too_short": "at least {min_length}",
    "too_long": "at most {max_length}",
    "string_too_short": "at least {min_length}",
    "string_too_long": "at most {max_length}",
}


def invalid_body(errors: Sequence[dict[str, Any]]) -> tuple[dict[str, object], int]:
    """The reply to a body that is no JSON, or no request of the route: an error, and its status."""
    kind, place = errors[0]["type"], errors[0]["loc"]
    if kind == "json_invalid":
        words = f"the body is no JSON from character {place[1] + 1} on, expected a JSON object"
        return error_body(400, words, "invalid_json"), 400
    if kind == "missing" and len(place) == 1:
        return error_body(400, "the body is empty, expected a JSON object", "empty_body"), 400
    if isinstance(errors[0]["input"], bytes):
        words = "the body was not sent as JSON, expected the header Content-Type: application/json"
        return error_body(422, words, "invalid_content_type"), 422
    where, message = words_of(errors)
    return error_body(422, message, "invalid_value", where or None), 422


def refused_request(request: Request, error: HTTPException) -> dict[str, object]:
    """The error for a request that no route takes, or whose body the framework cannot decode."""
    path, status, cause = shorten(request.url.path), error.status_code, error.__cause__
    if status == 404:
        return error_body(404, f"nothing is at {path}, expected a path of /openapi.json or the page's")
    if status == 405:
        allowed = (error.headers or {}).get("Allow", "another method")
        return error_body(405, f"{path} does not take {shorten(request.method)}, expected {allowed}")
    if isinstance(cause, UnicodeDecodeError):
        found = f"byte 0x{cause.object[cause.start]:02x} at offset {cause.start}"
        return error_body(400, f"the body is no UTF-8 text: {found}, expected JSON in UTF-8", "invalid_utf8")
    if isinstance(cause, RecursionError):
        return error_body(400, "the body is nested too deeply, expected a JSON object", "invalid_json")
    if isinstance(cause, ValueError):  # such as a number of more than 4,300 digits
        return error_body(
            400, "the body holds a number of too many digits, expected at most 4300", "invalid_json"
        )
    return error_body(status, str(error.detail))


def words_of(errors: Sequence[dict[str, Any]]) -> tuple[str, str]:
    """The place of the first wrong value, such as `puzzles.0.task` (empty: the body), and a line about it."""
    # Pydantic has an error for each form that a value may have. An error inside the value says more than one about
    # the whole, and one about its content more than one about its type.
    first_place = _place(errors[0])
    where = max((place for place in map(_place, errors) if place.startswith(first_place)), key=len)
    here = [error for error in errors if _place(error) == where]
    first = next((error for error in here if error["type"] not in _TYPES), here[0])
    kind, shown = first["type"], where or "the body"
    if kind == "value_error":
        return where, f"{where}: {first['ctx']['error']}" if where else str(first["ctx"]["error"])
    if kind == "extra_forbidden":
        key = shorten(str(first["loc"][-1]))
        return where, f"unknown key {key}, expected only those of the API's description"
    if kind == "missing":
        return where, f"{where}: missing, expected a value"
    if kind in _TYPES:
        expected = " or ".join(dict.fromkeys(_TYPES[error["type"]] for error in here))
    else:
        expected = _LIMITS.get(kind, "another value").format_map(first.get("ctx", {}))
    return where, f"{shown}: {_found(kind, first['input'])}, expected {expected}"


def _place(error: dict[str, Any]) -> str:
    """Where an error is, without pydantic's names of the forms that a value may have, such as `constrained-str`."""
    return ".".join(str(part) for part in error["loc"][1:] if isinstance(part, int) or part.isidentifier())


def _found(kind: str, value: object) -> str:
    if kind.startswith("string_too"):
        return f"{len(str(value))} characters"
    if kind.startswith("too_") and isinstance(value, list):
        return f"{len(value)} items"
    text = json.dumps(value)
    return text if len(text) <= LONGEST_VALUE else f"{text[:LONGEST_VALUE]}..."
