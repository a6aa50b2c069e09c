"""The digest of the code behind a stage, and of the versions of the libraries that it imports."""

import hashlib
from functools import cache
from importlib.metadata import version
from pathlib import Path

from dmemm.source import PACKAGE, imports, program, sources

# Libraries whose version a number or a picture can depend on, by the names that are imported.
LIBRARIES = {
    "PIL": "pillow", "gymnasium": "gymnasium", "gymnasium_robotics": "gymnasium-robotics", "matplotlib": "matplotlib",
    "minari": "minari", "mujoco": "mujoco", "numpy": "numpy", "onnxruntime": "onnxruntime", "scipy": "scipy",
    "torch": "torch",
}  # fmt: skip


@cache
def digest(*modules: str, root: Path = Path()) -> str:
    """Return a digest of the code that importing `modules` can run, and of the versions of the LIBRARIES it imports.

    Comments, docstrings and blank lines are left out: an edit of them reruns nothing.

    Raises:
        UserError: a module is missing, or a file is not valid Python.
    """
    files = sources(*modules, root=root)
    parts = [text for name in files for text in (name, program(root / name))] + _versions(files, root)
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def _versions(files: tuple[str, ...], root: Path) -> list[str]:
    """`library==version` of each library that the files import; a local build's suffix (+cpu) is no version."""
    top = {module.split(".")[0] for name in files for module in imports(root / name, PACKAGE)}
    libraries = [LIBRARIES[module] for module in top & LIBRARIES.keys()]
    return sorted(f"{library}=={version(library).partition('+')[0]}" for library in libraries)
