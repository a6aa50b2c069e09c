"""JSON Schemas of what users write: params.yaml and the task files."""

from difflib import get_close_matches
from functools import cache
from importlib.resources import files
from typing import Any

import jsonschema
import yaml

from dmemm.errors import UserError


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


@cache
def _validator(schema: str) -> jsonschema.Draft202012Validator:
    text = files("dmemm").joinpath(f"{schema}.schema.yaml").read_text()
    return jsonschema.Draft202012Validator(yaml.safe_load(text))
