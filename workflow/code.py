"""The code behind a stage: the modules that it imports, and the versions of the libraries that these import."""

import ast
import hashlib
from collections.abc import Iterator
from functools import cache
from importlib.metadata import version
from pathlib import Path

from dmemm.errors import UserError
from dmemm.source import parsed, program

PACKAGE = "dmemm"

# Modules that print messages, or hold parameters, which each job records with their values: no number depends on
# their text, and following them would retrain every network when a message changes.
FRONT = frozenset(f"dmemm.{name}" for name in ("cli", "stages", "config", "errors", "progress", "methods", "inputs"))

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
    parts = [text for name in files for text in (name, _program(root / name))] + _versions(files, root)
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


@cache
def sources(*modules: str, root: Path = Path()) -> tuple[str, ...]:
    """Return the package's files that importing `modules` can run, at module level or in a function.

    The files are read, never imported (torch takes seconds), and named relative to `root` in sorted order.

    Raises:
        UserError: a module is missing, or a file is not valid Python.
    """
    found: dict[str, str] = {}
    queue = list(modules)
    while queue:
        module = queue.pop()
        if module in found or module in FRONT:
            continue
        path = _file(module, root)
        if path is None:
            raise UserError(f"{module}: no such module under {PACKAGE}/")
        found[module] = path
        queue += (m for m in _imports(root / path, module) if m.split(".")[0] == PACKAGE and _file(m, root))
    return tuple(sorted(found.values()))


def _versions(files: tuple[str, ...], root: Path) -> list[str]:
    """`library==version` of each library that the files import; a local build's suffix (+cpu) is no version."""
    top = {module.split(".")[0] for name in files for module in _imports(root / name, PACKAGE)}
    libraries = [LIBRARIES[module] for module in top & LIBRARIES.keys()]
    return sorted(f"{library}=={version(library).partition('+')[0]}" for library in libraries)


@cache
def _file(module: str, root: Path) -> str | None:
    base = module.replace(".", "/")
    return next((p for p in (f"{base}.py", f"{base}/__init__.py") if (root / p).is_file()), None)


_parsed = cache(parsed)


@cache
def _program(path: Path) -> str:
    return program(*_parsed(path))


@cache
def _imports(path: Path, module: str) -> tuple[str, ...]:
    """Names of modules that a file imports, and of the packages that hold them, which run too."""
    try:
        statements = _statements(_parsed(path)[1])
    except SyntaxError as error:
        raise UserError(f"{path}: line {error.lineno}: not valid Python: {error.msg}") from error
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    names = {name for node in statements for name in _names(node, package)} | {module}
    return tuple(sorted({name[:end] for name in names for end in _ends(name)}))


def _ends(name: str) -> list[int]:
    return [i for i, letter in enumerate(name) if letter == "."] + [len(name)]


def _statements(node: ast.AST) -> Iterator[ast.AST]:
    """Every statement below a node; what statements hold otherwise, most of the tree, imports nothing."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.stmt | ast.excepthandler | ast.match_case):
            yield child
            yield from _statements(child)


def _names(node: ast.AST, package: str) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        base = node.module or ""
        if node.level:
            parents = package.split(".")[: len(package.split(".")) - node.level + 1]
            base = ".".join([*parents, base] if base else parents)
        yield base
        yield from (f"{base}.{alias.name}" for alias in node.names)
