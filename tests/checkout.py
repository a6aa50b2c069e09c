"""The project as git tracks it, whatever a user's runs and settings have left in the checkout."""

import shutil
import subprocess
from pathlib import Path

import yaml

from dmemm.config import Params, check_params
from dmemm.files import YamlLoader

ROOT = Path(__file__).parents[1]
# SETTINGS: edited by users, or by commands for them. MADE: written by runs, and never copied, even if committed.
SETTINGS = ("params.yaml", "dvc.yaml", ".dvc/config")
MADE = "dvc.lock"


def tracked(*paths: str, root: Path = ROOT) -> list[str]:
    """The files of git's index that match `paths` (all without any), relative to `root`."""
    return _git(root, "ls-files", "-z", "--", *paths).decode().split("\0")[:-1]


def staged(name: str, root: Path = ROOT) -> str:
    """The text that a file has in git's index."""
    return _git(root, "show", f":{name}").decode()


def copy_tracked(folder: Path, *paths: str, root: Path = ROOT) -> None:
    """Copy the project's files, or those that match `paths`, into a folder.

    A file that git does not track is not copied: `git add` a new file to test it. Tracked files are copied with their
    uncommitted edits, except SETTINGS, which are copied as they are in the index: `git add` an edit to test it.
    """
    for name in tracked(*paths, root=root):
        if name != MADE and (name in SETTINGS or (root / name).is_file()):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            if name in SETTINGS:
                (folder / name).write_text(staged(name, root))
            else:
                shutil.copy2(root / name, folder / name)


def staged_params() -> Params:
    """What params.yaml has in git's index."""
    return check_params(yaml.load(staged("params.yaml"), YamlLoader), "params.yaml")  # noqa: S506


def task_names() -> list[str]:
    """The tasks whose files git tracks."""
    return [Path(name).stem for name in tracked("tasks")]


def _git(root: Path, *command: str) -> bytes:
    return subprocess.run(["git", *command], cwd=root, capture_output=True, check=True).stdout
