"""JSON Schemas of what is read: params.yaml, the task files, and the JSON files that stages write for others."""

import sys
from collections.abc import Mapping
from difflib import get_close_matches
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import yaml

from dmemm.errors import UserError
from dmemm.files import read_json


def _is_integer(checker: Any, value: Any) -> bool:
    """Return whether a value is an integer. JSON Schema counts 5.0 as one, with which Python cannot count."""
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(checker: Any, value: Any) -> bool:
    """Return whether a value is a number: finite, and not an integer too large for a float."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and abs(value) <= sys.float_info.max


_TYPES = jsonschema.Draft202012Validator.TYPE_CHECKER.redefine_many({"integer": _is_integer, "number": _is_number})
Validator: Any = jsonschema.validators.extend(jsonschema.Draft202012Validator, type_checker=_TYPES)


def check(value: Any, schema: str, source: str) -> None:
    """Check `value` against the package's `schema`.schema.yaml.

    Raises:
        UserError: naming the first key at fault, with `source`.
    """
    error = jsonschema.exceptions.best_match(_validator(schema).iter_errors(value))
    if error is not None:
        path = [str(part) for part in error.absolute_path]
        wrong = error.message
        if error.validator == "additionalProperties":
            known = error.schema["properties"]
            path.append(next(str(key) for key in error.instance if key not in known))
            near = get_close_matches(path[-1], known, 1)
            wrong = f"unknown key; did you mean {near[0]}?" if near else f"unknown key; known: {', '.join(known)}"
        elif error.validator == "type" and error.validator_value == "array":
            wrong += "; it needs a list, as [0, 1]"
        elif error.validator == "type" and error.schema.get("required"):
            wrong += f"; it needs a value for each of {', '.join(error.schema['required'])}"
        raise UserError(": ".join([source, *([".".join(path)] if path else []), wrong]))


def read_record(
    path: Path, properties: Mapping[str, Any], stage: str, optional: Mapping[str, Any] | None = None
) -> Any:
    """Read a JSON file that a stage wrote.

    Args:
        path: the file.
        properties: key → JSON Schema of its value; all are there.
        stage: what to run again if the file is not as it must be.
        optional: likewise, of keys that may be left out.

    Raises:
        UserError: naming the file and the first key at fault.
    """
    record = read_json(path)
    schema = {"type": "object", "required": list(properties), "properties": {**properties, **(optional or {})}}
    error = jsonschema.exceptions.best_match(Validator(schema).iter_errors(record))
    if error is not None:
        key = ".".join(str(part) for part in error.absolute_path)
        wrong = " ".join(error.message.split())
        raise UserError(f"{path}: {key + ': ' if key else ''}{wrong}; delete it and run {stage} again")
    return record


@cache
def _validator(schema: str) -> Any:
    return Validator(yaml.safe_load(files("dmemm").joinpath(f"{schema}.schema.yaml").read_text()))
