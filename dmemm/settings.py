"""The two settings of params.yaml: `quick` for a laptop, `paper` for the paper's own values."""

import io
from importlib.resources import files
from pathlib import Path

from ruamel.yaml import YAML

from dmemm.config import check_params, load_params
from dmemm.files import replacing


def apply_setting(name: str, path: Path) -> None:
    """Write the setting's values into `path`; its other keys, comments and layout stay as they are.

    Args:
        name: `quick` or `paper`, a file of dmemm/presets.
        path: a params.yaml.

    Raises:
        UserError: the file is missing or breaks the schema.
    """
    load_params(path)
    yaml = YAML()
    yaml.width = 120
    yaml.indent(mapping=2, sequence=4, offset=2)
    params = yaml.load(path.read_text())
    preset = yaml.load(files("dmemm").joinpath(f"presets/{name}.yaml").read_text())
    for key, value in preset.items():
        if isinstance(value, dict):
            for part in [part for part in params[key] if part not in value]:
                del params[key][part]
            params[key].update(value)
        elif params[key] != value:
            params[key] = value
    check_params(params, f"setting {name}")
    text = io.StringIO()
    yaml.dump(params, text)
    with replacing(path) as temporary:
        temporary.write_text(text.getvalue())
    print(f"setting {name}: {len(preset)} keys of {path}; snakemake and dvc rerun what they affect")
