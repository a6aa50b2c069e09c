"""The command line: what `--help` shows can be typed."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from dmemm.cli import main, parser


def stages() -> list[str]:
    return re.findall(r"^    (\S+)", parser().format_help().partition("STAGE\n")[2], re.MULTILINE)


@pytest.mark.parametrize("stage", stages())
def test_the_example_of_each_stages_help_is_taken(stage: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main([stage, "--help"])
    example = capsys.readouterr().out.partition("example:\n")[2]
    program, *words = shlex.split(example.replace("\\\n", " "))
    arguments = parser().parse_args(words)
    assert program == "dmemm" and words[0] == stage and callable(arguments.run)
    for name in ("raw", "segments", "dynamics", "reward", "model", "output", "curve"):
        assert isinstance(getattr(arguments, name, None), Path) == (f"--{name}" in words)


@pytest.mark.parametrize("stage", ["train", "evaluate"])
def test_help_needs_no_torch(stage: str) -> None:
    code = f"import sys; from dmemm.cli import main\ntry: main(['{stage}', '--help'])\nexcept SystemExit: pass\n"
    code += "sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0


def test_a_missing_package_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "ruamel.yaml", None)
    monkeypatch.delitem(sys.modules, "dmemm.settings", raising=False)
    assert main(["setting", "quick"]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "module ruamel.yaml is not installed" in error and "[pipeline]" in error
