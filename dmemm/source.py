"""The package's files that a module runs, and what a result can depend on in them."""

import ast
import io
import tokenize
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from dmemm.errors import UserError

PACKAGE = "dmemm"

# Modules that print messages or read code, or hold parameters, which each job records with their values: no number
# depends on their text, and following them would retrain every network when a message changes.
_FRONT = ("cli", "stages", "config", "errors", "progress", "methods", "inputs", "source")
FRONT = frozenset(f"{PACKAGE}.{name}" for name in _FRONT)


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
        queue += (m for m in imports(root / path, module) if m.split(".")[0] == PACKAGE and _file(m, root))
    return tuple(sorted(found.values()))


@cache
def program(path: Path) -> str:
    """Return the lines of a Python file without comments, docstrings and blank lines, which no result depends on."""
    text, tree = _parsed(path)
    lines = text.split("\n")  # as the tokenizer counts them
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            line, column = token.start
            lines[line - 1] = lines[line - 1][:column]
    code = [line.encode() for line in lines]  # columns of the tree count bytes
    for node in ast.walk(tree):
        if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if ast.get_docstring(node, clean=False) is not None:
            doc = node.body[0]
            assert doc.end_lineno is not None and doc.end_col_offset is not None
            first, last = doc.lineno - 1, doc.end_lineno
            around = code[first][: doc.col_offset] + code[last - 1][doc.end_col_offset :]
            code[first:last] = [around] + [b""] * (last - first - 1)
    return "\n".join(line.decode().rstrip() for line in code if line.strip())


@cache
def imports(path: Path, module: str) -> tuple[str, ...]:
    """Names of modules that a file imports, and of the packages that hold them, which run too."""
    try:
        statements = _statements(_parsed(path)[1])
    except SyntaxError as error:
        raise UserError(f"{path}: line {error.lineno}: not valid Python: {error.msg}") from error
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    names = {name for node in statements for name in _names(node, package)} | {module}
    return tuple(sorted({name[:end] for name in names for end in _ends(name)}))


@cache
def _file(module: str, root: Path) -> str | None:
    base = module.replace(".", "/")
    return next((p for p in (f"{base}.py", f"{base}/__init__.py") if (root / p).is_file()), None)


@cache
def _parsed(path: Path) -> tuple[str, ast.Module]:
    text = path.read_text()
    return text, ast.parse(text, str(path))


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
