"""A hook of mkdocs: the page cli.md gets what `dmemm STAGE --help` prints."""

import argparse
from typing import Any

from dmemm.cli import parser


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Append each subcommand's help to the page of the command line."""
    if page.file.src_uri != "cli.md":
        return markdown
    (stages,) = (action for action in parser()._actions if isinstance(action, argparse._SubParsersAction))
    sections = (f"## {name}\n\n```text\n{stage.format_help()}```\n" for name, stage in stages.choices.items())
    return "\n".join([markdown, *sections])
