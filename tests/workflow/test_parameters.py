"""params.yaml, its settings, and what the two tools make of it."""

import pytest
import yaml
from ruamel.yaml import YAML

from dmemm.config import load_params
from dmemm.settings import apply_setting

from ..checkout import ROOT, staged


def test_quick_is_what_is_committed(tmp_path):
    path = tmp_path / "params.yaml"
    path.write_text(staged("params.yaml"))
    apply_setting("quick", path)
    assert path.read_text() == staged("params.yaml"), "bring dmemm/presets/quick.yaml in step, or `git add` both"


def test_settings_change_the_same_keys_and_keep_the_users_own(tmp_path):
    presets = {path.stem: yaml.safe_load(path.read_text()) for path in ROOT.glob("dmemm/presets/*.yaml")}
    assert presets["quick"].keys() == presets["paper"].keys() >= presets["small"].keys() | presets["demo"].keys()
    path = tmp_path / "params.yaml"
    text = staged("params.yaml").replace("lambda_rd: 0.05 ", "lambda_rd: 0.3 ")
    path.write_text(text)
    mine = load_params(path)
    apply_setting("paper", path)
    paper = load_params(path)
    assert (paper["diffusion_steps"]["maze"], paper["horizon"]["maze"]["large"], len(paper["seeds"])) == (100, 384, 5)
    assert paper["lambda_rd"] == 0.3
    assert paper["ema_decay"] ** 10 == pytest.approx(0.995, abs=1e-4)  # Diffuser averages every tenth step only
    apply_setting("small", path)  # of the paper's tasks, with quick's networks
    small = load_params(path)
    assert small["tasks"] == paper["tasks"] and small["network"] == mine["network"]
    assert small["train_steps"] == {**mine["train_steps"], "locomotion": 12000}
    apply_setting("quick", path)
    assert path.read_text() == text


def test_settings_replace_one_value_for_all_bodies_by_one_for_each(tmp_path):
    path = tmp_path / "params.yaml"
    params = yaml.safe_load(staged("params.yaml"))
    path.write_text(yaml.safe_dump({**params, "horizon": {"locomotion": 8, "maze": 128}}))
    apply_setting("paper", path)
    assert load_params(path)["horizon"]["maze"]["large"] == 384


def test_settings_find_their_way_in_a_file_that_dvc_has_written(tmp_path):
    path = tmp_path / "params.yaml"
    modify_yaml_as_dvc_does(path)
    before = load_params(path)
    comments = path.read_text().count("#")
    apply_setting("paper", path)
    assert {suite: len(tasks) for suite, tasks in load_params(path)["tasks"].items()} == {"locomotion": 9, "maze": 3}
    apply_setting("quick", path)
    assert load_params(path) == before
    assert path.read_text().count("#") == comments


def modify_yaml_as_dvc_does(path):
    with path.open("w") as file:
        YAML().dump(YAML().load(staged("params.yaml").replace("[0, 1]", "\n  - 0\n  - 1")), file)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"lambda_tr": -1}, "lambda_tr: -1 is less than the minimum"),
        ({"tasks": ["hopper-medium", "maze2d-umaze"]}, "type 'object'; it needs a value for each of locomotion, maze"),
        (
            {"tasks": {"locomotion": ["hopper-expert"], "maze": ["maze2d-umaze"]}},
            "tasks.locomotion: hopper-expert: unknown task; choose one of",
        ),
        (
            {"tasks": {"locomotion": ["maze2d-large"], "maze": ["maze2d-umaze"]}},
            "tasks.locomotion: maze2d-large has a goal; put it into tasks.maze",
        ),
        (
            {"methods": ["rvs", "os"]},
            "methods: os is unknown; choose from bc, bcq, bear, cql, dt, dv, hd, hdmi, iql, morel, mppi, rebrac, rvs, "
            "td3bc, tt",
        ),
        ({"method_steps": {"others": 5, "iqll": 9}}, "method_steps: iqll is unknown; choose from bc, "),
        ({"method_steps": {"iql": 9}}, "method_steps: 'others' is a required property"),
        ({"learning_rat": 1}, "learning_rat: unknown key; did you mean learning_rate?"),
        ({"ablation_tasks": ["maze2d-umaze"]}, "maze2d-umaze has a goal; Table 3 and Figure 1 are for locomotion"),
        ({"ablation_tasks": ["walker2d-medium"]}, "ablation_tasks: walker2d-medium is not in tasks.locomotion"),
    ],
)
def test_wrong_parameters_stop_snakemake_with_one_line(project, change, named):
    text = (project.folder / "params.yaml").read_text()
    project.set(**change)
    output = project.run("snakemake", "--dry-run", fails=True)
    (project.folder / "params.yaml").write_text(text)
    assert named in output
    told = [line for line in output.splitlines() if line.strip() and not line.startswith("Using workflow specific")]
    assert len(told) == 1, output


def test_a_wrong_task_file_stops_snakemake_with_one_line(project):
    path = project.folder / "tasks/wrong.yaml"
    path.write_text((project.folder / "tasks/hopper-medium.yaml").read_text() + "episode_step: 10\n")
    output = project.run("snakemake", "--dry-run", fails=True)
    path.unlink()
    assert output.splitlines()[-1] == (
        "snakemake: tasks/wrong.yaml: episode_step: unknown key; did you mean episode_steps?"
    )


def test_config_on_the_command_line_is_refused(project):
    output = project.run("snakemake", "--dry-run", "--config", "lambda_tr=0.2", fails=True)
    assert "params.yaml is the only source" in output


def test_any_variant_and_seed_can_be_asked_for_by_path(project):
    planned = project.planned("results/eval/wo_lambda_rd/halfcheetah-medium/seed7.json")
    assert planned["train"] == planned["evaluate"] == 1
