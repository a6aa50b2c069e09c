"""What a result can depend on in Python files."""

import ast
import io
import tokenize
from pathlib import Path


def parsed(path: Path) -> tuple[str, ast.Module]:
    """Return the text of a Python file and its syntax tree."""
    text = path.read_text()
    return text, ast.parse(text, str(path))


def program(text: str, tree: ast.Module) -> str:
    """Return the lines of a parsed file without comments, docstrings and blank lines, which no result depends on."""
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
