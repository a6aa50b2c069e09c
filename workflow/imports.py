"""The modules behind a stage, so that an edit of one reruns the stages it affects and no other."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from dmemm.errors import UserError

PACKAGE = "dmemm"

# Modules that tell the user things, or carry parameters that are recorded with every job: no number depends on their
# text, and following them would retrain every network when a message or another stage's parameter changes.
FRONT = frozenset(f"dmemm.{name}" for name in ("cli", "stages", "config", "variants", "errors", "progress", "methods"))


@cache
def sources(*entries: str, root: Path = Path()) -> tuple[str, ...]:
    """Return the files of the package that importing `entries` can run, at module level or in a function.

    Files of nothing but a docstring are left out: every stage would have to look at them, for nothing. The files are
    read, never imported (torch takes seconds), and named relative to `root` in sorted order.

    Raises:
        UserError: an entry is missing, or a file is not valid Python.
    """
    found: dict[str, str] = {}
    queue = list(entries)
    while queue:
        module = queue.pop()
        if module in found or module in FRONT:
            continue
        path = _file(module, root)
        if path is None:
            raise UserError(f"{module}: no such module under {PACKAGE}/")
        found[module] = path
        queue += (m for m in _imports(root / path, module) if _file(m, root) is not None)
    return tuple(sorted(path for path in found.values() if _runs(root / path)))


@cache
def _file(module: str, root: Path) -> str | None:
    base = module.replace(".", "/")
    return next((p for p in (f"{base}.py", f"{base}/__init__.py") if (root / p).is_file()), None)


@cache
def _tree(path: Path) -> ast.Module:
    try:
        return ast.parse(path.read_text(), str(path))
    except SyntaxError as error:
        raise UserError(f"{path}: line {error.lineno}: not valid Python: {error.msg}") from error


def _runs(path: Path) -> bool:
    """Whether there is more in a file than a docstring."""
    return not all(isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) for node in _tree(path).body)


@cache
def _imports(path: Path, module: str) -> tuple[str, ...]:
    tree = _tree(path)
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    names = {name for node in _statements(tree) for name in _names(node, package)}
    # Importing a module runs the packages that hold it.
    chains = {
        ".".join(parts[:n]) for parts in (m.split(".") for m in {*names, module}) for n in range(1, len(parts) + 1)
    }
    return tuple(sorted(m for m in chains if m.split(".")[0] == PACKAGE))


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
