"""JSON Schemas of what users write: params.yaml and the task files."""

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
        key = ".".join(str(part) for part in error.absolute_path)
        raise UserError(f"{source}: {key + ': ' if key else ''}{error.message}")


@cache
def _validator(schema: str) -> jsonschema.Draft202012Validator:
    text = files("dmemm").joinpath(f"{schema}.schema.yaml").read_text()
    return jsonschema.Draft202012Validator(yaml.safe_load(text))
