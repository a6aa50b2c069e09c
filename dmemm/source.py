"""What a result can depend on in Python files."""

import ast
import io
import tokenize
from functools import cache
from pathlib import Path


@cache
def tree(path: Path) -> ast.Module:
    """Return the syntax tree of a Python file."""
    return ast.parse(path.read_text(), str(path))


def program(path: Path) -> str:
    """Return the lines of a Python file without comments, docstrings and blank lines, which no result depends on."""
    text = path.read_text()
    lines = text.split("\n")  # as the tokenizer counts them
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            line, column = token.start
            lines[line - 1] = lines[line - 1][:column]
    code = [line.encode() for line in lines]  # columns of the tree count bytes
    for node in ast.walk(tree(path)):
        if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if ast.get_docstring(node, clean=False) is not None:
            doc = node.body[0]
            assert doc.end_lineno is not None and doc.end_col_offset is not None
            first, last = doc.lineno - 1, doc.end_lineno
            around = code[first][: doc.col_offset] + code[last - 1][doc.end_col_offset :]
            code[first:last] = [around] + [b""] * (last - first - 1)
    return "\n".join(line.decode().rstrip() for line in code if line.strip())
