"""The settings of params.yaml.

`quick` is for a laptop, `small` for the whole paper with quick's networks, `paper` for the paper's own values, and
`demo` for `make demo`.
"""

import io
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq

from dmemm.config import load_params
from dmemm.errors import UserError
from dmemm.files import replacing


def apply_setting(name: str, path: Path) -> None:
    """Write the setting's values into `path`; its other keys, comments and layout stay as they are.

    Args:
        name: `quick`, `small`, `paper` or `demo`: a file of dmemm/presets, which changes quick's values.
        path: a params.yaml.

    Raises:
        UserError: the file is missing or breaks the schema.
    """
    expected = dict(load_params(path))
    folder, safe = files("dmemm").joinpath("presets"), YAML(typ="safe")
    quick, chosen = (safe.load(folder.joinpath(f"{each}.yaml").read_text()) for each in ("quick", name))
    preset = quick | chosen
    yaml = YAML()
    yaml.width = 120
    yaml.indent(mapping=2, sequence=4, offset=2)
    params = yaml.load(path.read_text())
    _change(params, preset)
    text = io.StringIO()
    yaml.dump(params, text)
    with replacing(path) as temporary:
        temporary.write_text(text.getvalue())
        if load_params(temporary) != expected | preset:
            raise UserError(f"{path}: its layout is too unusual to be edited; restore it with `git checkout {path}`")
    print(f"setting {name}: {len(preset)} keys of {path}; snakemake and dvc rerun what they affect")


def _change(old: CommentedMap, new: Mapping[str, Any]) -> None:
    for key, value in new.items():
        if isinstance(value, dict) and isinstance(old.get(key), dict):
            for part in [part for part in old[key] if part not in value]:
                del old[key][part]
            _change(old[key], value)
        elif isinstance(value, list) and key in old:
            if old[key] != value:
                old[key] = _like(old[key], value)
        elif key not in old or old[key] != value:
            old[key] = value


def _like(old: CommentedSeq, values: list[Any]) -> CommentedSeq:
    """A list in the style of `old`, which holds the comments above it and, at its last item, those below it."""
    new = CommentedSeq(values)
    if old.fa.flow_style():
        new.fa.set_flow_style()
    new.ca.comment, new.ca.end = old.ca.comment, old.ca.end
    if len(old) - 1 in old.ca.items:
        new.ca.items[len(values) - 1] = old.ca.items[len(old) - 1]
    return new
