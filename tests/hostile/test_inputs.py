"""Damaged and malicious task files, parameters, data and windows: each is one clear line, and nothing is lost."""

import json
from pathlib import Path

import numpy as np
import pytest

from dmemm.cli import main

from .conftest import COMMANDS, contents, own_data, run, write_hdf5
from .damage import (
    DEEP,
    Case,
    appended,
    array,
    binary,
    check,
    empty,
    folder_instead,
    half,
    hdf5,
    linked,
    own,
    removed,
    replaced,
    scribbled,
    text,
    told,
)

TASK_FILE = "tasks/pendulum.yaml"
TASKS = [
    Case("download", TASK_FILE, empty, "not of type 'object'"),
    Case("download", TASK_FILE, binary, "not valid YAML"),
    Case("download", TASK_FILE, text("- a\n- b\n"), "not of type 'object'"),
    Case("download", TASK_FILE, text(DEEP), "not valid YAML"),
    Case("download", TASK_FILE, appended("note: 2020-13-45"), "not valid YAML: month must be in 1..12"),
    Case("download", TASK_FILE, appended("note: 0b_"), "not valid YAML"),
    Case("download", TASK_FILE, appended("note: !!int ''"), "not valid YAML"),
    Case("download", TASK_FILE, appended("note: !!bool maybe"), "not valid YAML"),
    Case("download", TASK_FILE, appended("note: !!timestamp now"), "not valid YAML"),
    Case("download", TASK_FILE, appended("note: !!python/object/apply:os.system [touch hacked]"), "not valid YAML"),
    Case("download", TASK_FILE, appended("env: CartPole-v1"), "not valid YAML: env is given twice"),
    Case("download", TASK_FILE, replaced("-1200", ".nan"), "random_return: nan is not of type 'number'"),
    Case("download", TASK_FILE, replaced("-150", "-.inf"), "expert_return: -inf is not of type 'number'"),
    Case("download", TASK_FILE, replaced("-150", "1" + "0" * 400), "expert_return: "),
    Case("download", TASK_FILE, replaced("steps: 20", "steps: 20.0"), "episode_steps: 20.0 is not of type 'integer'"),
    Case("download", TASK_FILE, replaced("steps: 20", "steps: yes"), "episode_steps: True is not of type 'integer'"),
    Case("download", TASK_FILE, replaced("Pendulum-v1", "1"), "env: 1 is not of type 'string'"),
    Case("download", TASK_FILE, replaced("Pendulum-v1", "':x'"), "env: :x: Empty module name"),
    Case("download", TASK_FILE, replaced("Pendulum-v1", "'math:pi'"), "env: math:pi cannot be built"),
    Case("download", TASK_FILE, replaced("Pendulum-v1", "builtins:dict"), "env: builtins:dict makes no gymnasium.Env"),
    Case("download", TASK_FILE, appended("env_arguments: {g: 1, h: 2}"), "env: Pendulum-v1 cannot be built"),
    Case("download", TASK_FILE, appended("env_arguments: [1]"), "env_arguments: [1] is not of type 'object'"),
    Case("download", TASK_FILE, replaced("own.hdf5", "."), ".: no such file"),
    Case("download", TASK_FILE, replaced("own.hdf5", "raw.hdf5"), "raw.hdf5: is the data set itself"),
    Case("download", TASK_FILE, replaced("{own: own.hdf5}", "{}"), "pendulum.yaml: `data` names no source"),
    Case("download", TASK_FILE, replaced("own.hdf5", "own.hdf5, minari: [x-v0]"), "`own` must be the only source"),
    Case("download", TASK_FILE, folder_instead, "pendulum: unknown task"),
    Case("evaluate", TASK_FILE, appended("terminal: math:sqrt"), "terminal: math:sqrt: "),
    Case("evaluate", TASK_FILE, appended("terminal: builtins:list"), "terminal: builtins:list: AttributeError"),
    Case(
        "evaluate",
        TASK_FILE,
        appended("terminal: numpy:isnan"),
        "terminal: numpy:isnan: ValueError: bool of shape",
    ),
    Case("evaluate", TASK_FILE, appended("terminal: nowhere:x"), "terminal: nowhere:x: No module named"),
    Case("evaluate", TASK_FILE, replaced("env: Pendulum-v1", "env: Acrobot-v1"), "Acrobot-v1 has actions in Discrete"),
]
PARAMS = [
    Case("segment", "params.yaml", empty, "not of type 'object'"),
    Case("segment", "params.yaml", binary, "not valid YAML"),
    Case("segment", "params.yaml", Path.unlink, "cannot read"),
    Case("segment", "params.yaml", folder_instead, "cannot read"),
    Case("segment", "params.yaml", text(DEEP), "not valid YAML"),
    Case("segment", "params.yaml", appended("alpha: 1.0"), "not valid YAML: alpha is given twice"),
    Case("segment", "params.yaml", appended("1: 2"), "1: unknown key"),
    Case("segment", "params.yaml", appended("? [a]\n: b"), "not valid YAML"),
    Case("segment", "params.yaml", appended("<<: 3"), "not valid YAML"),
    Case("segment", "params.yaml", replaced("seeds:\n- 0", "seeds:\n- 100000"), "seeds.0: 100000 is greater than"),
    Case("segment", "params.yaml", replaced("held_out: ", "held_out: .nan #"), "held_out: nan is not of type 'number'"),
    Case("setting", "params.yaml", appended("alpha: 1.0"), "not valid YAML: alpha is given twice"),
    Case("setting", "params.yaml", half, ""),
]
DATA = [
    Case("download", "own.hdf5", half, "damaged or not an HDF5"),
    Case("download", "own.hdf5", empty, "damaged or not an HDF5"),
    Case("download", "own.hdf5", scribbled, ""),
    Case("download", "own.hdf5", folder_instead, "no such file"),
    Case("download", "own.hdf5", own(terminals=np.full(300, np.nan)), "terminals hold other values than 0 and 1"),
    Case("download", "own.hdf5", own(timeouts=np.arange(300)), "timeouts hold other values than 0 and 1"),
    Case("download", "own.hdf5", own(actions=np.ones((300, 1), complex)), "actions is complex128"),
    Case("download", "own.hdf5", own(terminals=np.zeros((300, 2))), "terminals have shape (300, 2)"),
    Case("download", "own.hdf5", own(observations=np.ones((300, 3, 1))), "observations have shape"),
    Case("download", "own.hdf5", own(observations=np.ones((300, 0))), "observations have shape"),
    Case(
        "download",
        "own.hdf5",
        own(**{k: v[:1] for k, v in own_data().items()}),
        "own.hdf5: holds no transitions whose next",
    ),
    Case("download", "own.hdf5", removed("actions"), "lacks actions; it has observations, rewards, terminals"),
    Case("segment", "raw.hdf5", half, "damaged or not an HDF5"),
    Case("segment", "raw.hdf5", folder_instead, "no such file"),
    Case("dynamics", "raw.hdf5", removed("rewards"), "lacks rewards"),
    Case("reward", "raw.hdf5", linked("rewards"), "links are not followed"),
    Case("value", "raw.hdf5", array("rewards", lambda x: x * np.nan), "rewards hold NaN"),
    Case("train", "raw.hdf5", array("rewards", lambda x: x + 1), "w.h5: of other raw data than raw.hdf5"),
    Case("rvs", "raw.hdf5", array("actions", lambda x: x[:, 0]), "actions have shape"),
    Case("consistency", "raw.hdf5", scribbled, ""),
]
SEGMENTS = [
    Case("train", "w.h5", half, "w.h5: damaged"),
    Case("train", "w.h5", text("hello"), "w.h5: damaged"),
    Case("train", "w.h5", Path.unlink, "w.h5: "),
    Case("train", "w.h5", scribbled, ""),
    Case("train", "w.h5", removed("starts"), "w.h5: lacks starts"),
    Case("train", "w.h5", removed("normaliser/scale"), "w.h5: lacks normaliser/scale"),
    Case("train", "w.h5", removed("normaliser"), "w.h5: "),
    Case("train", "w.h5", hdf5(lambda file: file.attrs.__delitem__("horizon")), "w.h5: damaged"),
    Case("train", "w.h5", hdf5(lambda file: file.attrs.__setitem__("horizon", "eight")), "w.h5: damaged"),
    Case("train", "w.h5", hdf5(lambda file: file.attrs.__setitem__("horizon", 2)), "windows or scales out of range"),
    Case("train", "w.h5", linked("weights"), "weights lies elsewhere"),
    Case("train", "w.h5", array("starts", lambda x: x + 10**6), "windows that raw.hdf5 does not have"),
    Case("train", "w.h5", array("starts", lambda x: x - 5), "windows or scales out of range"),
    Case("train", "w.h5", array("starts", lambda x: x[:-1]), "arrays of shapes that do not belong together"),
    Case("train", "w.h5", array("starts", lambda x: x.astype(float)), "numbers of another kind"),
    Case("train", "w.h5", array("starts", lambda x: 3), "w.h5: "),
    Case("train", "w.h5", array("starts", lambda x: b"text"), "not an array of numbers"),
    Case("train", "w.h5", array("lengths", lambda x: x * 0), "windows or scales out of range"),
    Case("train", "w.h5", array("weights", lambda x: x * np.nan), "a number that is not finite"),
    Case("train", "w.h5", array("held_out", lambda x: x | True), "no windows to learn from"),
    Case("train", "w.h5", array("held_out", lambda x: x.astype(float)), "numbers of another kind"),
    Case("train", "w.h5", array("normaliser/scale", lambda x: x * 0), "windows or scales out of range"),
    Case("plan-value", "w.h5", array("normaliser/center", lambda x: x[:2]), "arrays of shapes that do not belong"),
    Case("consistency", "w.h5", array("lengths", lambda x: x[:0]), "arrays of shapes that do not belong together"),
]


@pytest.mark.parametrize(
    "case", [*TASKS, *PARAMS, *DATA, *SEGMENTS], ids=lambda case: f"{case.command}-{case.file}-{case.said[:40]}"
)
def test_a_damaged_file_is_one_line_and_nothing_is_lost(
    case: Case, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    check(case, folder, capsys)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("segment pendulum --raw raw.hdf5 --output raw.hdf5", "given as --raw and as --output"),
        ("download pendulum --output a --statistics ./a", "given as --output and as --statistics"),
        ("table 1 --scores e.json f.json --published published.csv --outputs e.json", "given as --scores"),
        ("table 1 --scores e.json f.json --published published.csv --outputs t.csv --long t.csv", "as --long"),
        (f"{COMMANDS['calibrate']} --output plan_value.safetensors", "given as --plan-value and as --output"),
        ("segment pendulum --raw raw.hdf5 --output .", "names no file"),
        ("segment pendulum --raw raw.hdf5 --output /", "names no file"),
        ("segment pendulum --raw raw.hdf5 --output tasks", "cannot write: Is a directory"),
        ("segment pendulum --raw raw.hdf5 --output e.json/w.h5", "cannot write"),
        (f"segment pendulum --raw raw.hdf5 --output {'a' * 300}", "cannot write: File name too long"),
        (COMMANDS["rvs"].replace("rvs 0", "rvs -1"), "seed -1: use one from 0 to 99999"),
        (COMMANDS["rvs"].replace("rvs 0", f"rvs {10**30}"), "use one from 0 to 99999"),
        (f"{COMMANDS['segment']} --set held_out=0b_", "held_out=0b_: the value is not valid YAML"),
        (f"{COMMANDS['segment']} --set held_out=.nan", "held_out: nan is not of type 'number'"),
        (f"{COMMANDS['dynamics']} --set mechanism_epochs=2.0", "mechanism_epochs: 2.0 is not of type 'integer'"),
        ("curves --curves m.csv --mechanisms dynamics.csv --outputs t.png", "m.csv: the path does not name task"),
        (
            "curves --curves pendulum/dmemm/seed0.csv --mechanisms dynamics.csv --outputs t.png",
            "dynamics.csv: the path does not name stage and task",
        ),
    ],
)
def test_a_wrong_command_is_one_line_and_nothing_is_lost(
    words: str, said: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents(folder)
    assert main(words.split()) == 1
    (line,) = told(capsys)
    assert line.startswith("dmemm: ") and said in line, line
    assert contents(folder) == before


def test_one_transition_is_too_few_to_learn_from_and_is_said_so(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_hdf5(folder / "own.hdf5", {key: values[:2] for key, values in own_data().items()})
    assert run("download") == 0
    assert json.loads((folder / "s.json").read_text())["transitions"] == 1
    capsys.readouterr()
    assert run("segment") == 1
    (line,) = told(capsys)
    assert "no episode is as long as the horizon" in line
    for command in ("dynamics", "reward", "value"):
        assert run(command) == 1
        (line,) = told(capsys)
        assert "1 transitions are too few to hold one out; use more data" in line
    assert run("rvs") == 0


def test_weights_of_a_task_of_other_sizes_are_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    task = (folder / "tasks/pendulum.yaml").read_text().replace("Pendulum-v1", "MountainCarContinuous-v0")
    (folder / "tasks/car.yaml").write_text(task)
    for command, said in (("evaluate", "observations have shape"), ("evaluate-rvs", "observations have shape (1, 2)")):
        before = contents(folder)
        assert main(COMMANDS[command].replace("pendulum", "car").split()) == 1
        (line,) = told(capsys)
        assert said in line
        assert contents(folder) == before
