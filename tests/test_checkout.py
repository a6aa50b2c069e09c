"""What scratch projects are copied from: the project, and nothing that a user's runs and settings have left."""

import subprocess
from pathlib import Path

from .checkout import copy_tracked


def test_a_copy_has_the_projects_files_and_nothing_of_the_users(tmp_path: Path) -> None:
    root, copy = tmp_path / "checkout", tmp_path / "copy"
    project = dict.fromkeys(["Snakefile", "dmemm/a b.py", "dmemm/gone.py", "tasks/ant.yaml", "params.yaml"], "project")
    write(root, project | {"dvc.lock": "committed by the user", ".gitignore": "/results/\n"})
    subprocess.run(["git", "init", "--quiet"], cwd=root, check=True)
    subprocess.run(["git", "add", "--all"], cwd=root, check=True)
    write(root, {"params.yaml": "user", "Snakefile": "edited", "dmemm/new.py": "added"})
    subprocess.run(["git", "add", "dmemm/new.py"], cwd=root, check=True)
    (root / "dmemm/gone.py").unlink()
    write(root, dict.fromkeys(["dvc.lock", "results/table1.csv", "tasks/mine.yaml", "envs/mine.py"], "user"))
    copy_tracked(copy, root=root)
    assert {path.relative_to(copy).as_posix(): path.read_text() for path in copy.rglob("*") if path.is_file()} == {
        "Snakefile": "edited",
        "dmemm/a b.py": "project",
        "dmemm/new.py": "added",
        "tasks/ant.yaml": "project",
        "params.yaml": "project",
        ".gitignore": "/results/\n",
    }


def write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
