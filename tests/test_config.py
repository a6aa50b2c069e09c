"""Parameters: numbers, refusals, what each stage and variant reads."""

import dataclasses
import re

import pytest

from dmemm.cli import main
from dmemm.config import (
    CalibrateConfig,
    EvaluateConfig,
    MethodConfig,
    SegmentConfig,
    TrainConfig,
    override,
    override_own,
)
from dmemm.errors import UserError
from dmemm.methods import METHODS, get_method
from dmemm.tasks import get_task

from .checkout import staged_params

PARAMS = staged_params()
PLANNERS = {name: method for name, method in METHODS.items() if method.is_planner}


@pytest.mark.parametrize(("text", "value"), [("3e-05", 3e-5), ("1e-4", 1e-4), (".5E1", 5.0), ("0.25", 0.25), ("2", 2)])
def test_numbers_in_every_notation(text, value):
    assert override(PARAMS, [f"lambda_guide={text}"])["lambda_guide"] == value


@pytest.mark.parametrize(
    ("assignments", "expected"),
    [
        ([], (0, 30, 30)),
        (["alpha=0.5"], (0.5, 0.5, 0.5)),
        (["alpha.diffuser=2"], (2, 30, 30)),
        (["alpha.others=7"], (0, 7, 7)),
    ],
)
def test_diffuser_has_a_guidance_scale_of_its_own(assignments, expected):
    params, task = override(PARAMS, assignments), get_task("hopper-medium")
    methods = [get_method(name) for name in ("diffuser", "dmemm", "wo_modulation")]
    assert tuple(EvaluateConfig.resolve(params, task, method).alpha for method in methods) == expected


def test_a_tasks_file_may_have_both_scales_too():
    task = dataclasses.replace(get_task("hopper-medium"), parameters={"alpha": {"diffuser": 3, "others": 10}})
    methods = [get_method(name) for name in ("diffuser", "dmemm", "wo_modulation")]
    assert [EvaluateConfig.resolve(PARAMS, task, method).alpha for method in methods] == [3, 10, 10]
    assert override_own(task, ["alpha=5.0"]).parameters == {"alpha": 5.0}
    assert override_own(task, ["alpha.others=5.0"]).parameters == {"alpha": {"diffuser": 3, "others": 5.0}}
    one = dataclasses.replace(task, parameters={"alpha": 10})
    assert override_own(one, ["alpha.diffuser=5"]).parameters == {"alpha": {"diffuser": 5, "others": 10}}


@pytest.mark.parametrize("text", ["66484978252556e8673c638c4a3560c3", "1e", "nan1", "[1]", "{a: 1}", ""])
def test_what_is_no_number_is_refused_for_one(text):
    with pytest.raises(UserError, match="lambda_guide"):
        override(PARAMS, [f"lambda_guide={text}"])


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("lambda_tr=-1", "lambda_tr: -1 is less than the minimum of 0"),
        ("ema_decay=1", "ema_decay"),
        ("predict=score", "predict: 'score' is not one of"),
        ("horizon={locomotion: 4}", "horizon: 'maze' is a required property"),
        ("horizon.locomotion={hopper: 4}", "horizon.locomotion: 'halfcheetah' is a required property"),
        ("train_steps.mazes=7", "train_steps.mazes: unknown key; did you mean maze"),
        ("lambda_tr.maze=7", "lambda_tr: {'maze': 7} is not of type 'number'"),
        ("train_step.maze=7", "train_step: unknown key; did you mean train_steps"),
        ("lambda=1", "command line: lambda: unknown key; did you mean lambda_tr"),
        ("zzz=1", "zzz: unknown key; known: data_source, "),
        ("seeds=2", r"seeds: 2 is not of type 'array'; it needs a list, as \[0, 1\]"),
        ("train_steps=many", r"train_steps\.\w+: 'many' is not of type 'integer'"),
        ("horizon=3", r"horizon\.\w+: 3 is less than the minimum of 4"),
        ("method_steps.iqll=5", "command line: method_steps: iqll is unknown; choose from bc, .*, others"),
        ("methods=[rvss]", "methods: rvss is unknown"),
        ("method_steps={iql: 5}", "method_steps: 'others' is a required property"),
        ("alpha", "expected key=value"),
    ],
)
def test_out_of_range_unknown_and_malformed_are_named(assignment, message):
    with pytest.raises(UserError, match=message):
        override(PARAMS, [assignment])


@pytest.mark.parametrize(
    ("assignments", "expected"),
    [
        (["horizon.locomotion.halfcheetah=9"], (8, 9, 384)),
        (["horizon={locomotion: {hopper: 5, halfcheetah: 6, walker2d: 7}, maze: 8}"], (5, 6, 8)),
        (["horizon.locomotion=7", "horizon.maze.large=40"], (7, 7, 40)),
        (["horizon=7"], (7, 7, 7)),
    ],
)
def test_values_are_chosen_by_suite_and_body(assignments, expected):
    changed = override(PARAMS, assignments)
    tasks = ("hopper-medium", "halfcheetah-medium", "maze2d-large")
    assert tuple(SegmentConfig.resolve(changed, get_task(task)).horizon for task in tasks) == expected


def test_a_methods_steps_are_its_own_or_those_of_the_others():
    def steps(*names):
        task = get_task("hopper-medium")
        return [MethodConfig.resolve(changed, task, get_method(name)).method_steps for name in names]

    changed = override(PARAMS, ["method_steps={others: 5, iql: 7}"])
    assert steps("iql", "bc") == [7, 5]
    changed = override(changed, ["method_steps.bc=6"])
    assert steps("iql", "bc", "rvs") == [7, 6, 5]
    changed = override(changed, ["method_steps=2"])
    assert steps("iql", "bc", "rvs") == [2, 2, 2]


def test_one_value_for_a_key_with_several_is_that_of_all_and_a_suites_or_bodys_leaves_the_others():
    changed = override(PARAMS, ["train_steps=7", "unet_mults=[1, 3]"])
    for task in ("hopper-medium", "maze2d-large"):
        config = TrainConfig.resolve(changed, get_task(task))
        assert (config.train_steps, config.unet_mults) == (7, (1, 3))
    mine = PARAMS["train_steps"]
    changed = override(PARAMS, ["train_steps.maze=7"])
    assert changed["train_steps"] == {**mine, "maze": dict.fromkeys(mine["maze"], 7)}
    changed = override(PARAMS, ["train_steps.maze.large=7"])
    assert changed["train_steps"] == {**mine, "maze": {**mine["maze"], "large": 7}}
    for task, steps in (
        ("hopper-medium", mine["locomotion"]),
        ("maze2d-medium", mine["maze"]["medium"]),
        ("multi2d-large", 7),
    ):
        assert TrainConfig.resolve(changed, get_task(task)).train_steps == steps


def test_variants_fix_what_their_names_say():
    resolved = {n: TrainConfig.resolve(PARAMS, get_task("hopper-medium"), v) for n, v in PLANNERS.items()}
    assert (resolved["dmemm"].lambda_tr, resolved["dmemm"].lambda_rd, resolved["dmemm"].weighting) == (
        PARAMS["lambda_tr"], PARAMS["lambda_rd"], True)  # fmt: skip
    assert not resolved["wo_weighting"].weighting and resolved["wo_weighting"].lambda_tr > 0
    assert resolved["wo_lambda_tr"].lambda_tr == 0 < resolved["wo_lambda_tr"].lambda_rd
    assert resolved["wo_lambda_rd"].lambda_rd == 0 < resolved["wo_lambda_rd"].lambda_tr
    diffuser = resolved["diffuser"]
    assert (diffuser.lambda_tr, diffuser.lambda_rd, diffuser.weighting) == (0, 0, False)
    guiding = PARAMS | {"lambda_guide": 0.1}
    guides = {
        n: EvaluateConfig.resolve(guiding, get_task("hopper-medium"), v).lambda_guide for n, v in PLANNERS.items()
    }
    assert guides["wo_tr_guide"] == guides["diffuser"] == 0 < guides["dmemm"]
    assert (METHODS["wo_tr_guide"].network, METHODS["wo_modulation"].network) == ("dmemm", "diffuser")
    weighted = resolved["only_weighting"]
    assert weighted.weighting and weighted.lambda_tr == weighted.lambda_rd == 0 and not weighted.reward_loss
    plans = {n: EvaluateConfig.resolve(PARAMS, get_task("hopper-medium"), v) for n, v in PLANNERS.items()}
    assert {n for n, config in plans.items() if config.veto == 0} == {"diffuser", "wo_tr_guide", "only_weighting"}
    assert {n for n, config in plans.items() if config.objective == "plan_value"} == {"diffuser"}
    assert plans["wo_modulation"] == plans["dmemm"]
    guided = {n for n, config in plans.items() if "dynamics" in config.models(get_task("hopper-medium"))}
    assert PLANNERS.keys() - guided == {"diffuser", "wo_tr_guide", "only_weighting"}
    assert {n for n, c in plans.items() if not c.predicts(get_task("hopper-medium"))} == PLANNERS.keys() - guided
    learned = {n: config.models(get_task("hopper-medium")) for n, config in resolved.items()}
    assert learned["dmemm"] == ("dynamics", "reward") and learned["wo_lambda_tr"] == ("reward",)
    assert {n for n, models in learned.items() if not models} == {"diffuser", "only_weighting"}
    maze = TrainConfig.resolve(PARAMS, get_task("maze2d-umaze"), METHODS["dmemm"])
    assert maze.models(get_task("maze2d-umaze")) == ("dynamics",)  # the reward loss is for locomotion


@pytest.mark.parametrize(
    ("objective", "models"),
    [("reward", ("reward",)), ("return", ("reward", "value")), ("value", ("value",)), ("plan_value", ("plan_value",))],
)
def test_planning_needs_the_models_of_its_objective_and_the_ensemble_where_it_guides_or_chooses(objective, models):
    for key, value in {"lambda_guide": 0.5, "veto": 0.5, "model_rollout": True}.items():
        idle = {"lambda_guide": 0.0, "veto": 0.0, "model_rollout": False}
        config = EvaluateConfig.resolve(PARAMS, get_task("hopper-medium"))
        unguided = dataclasses.replace(config, objective=objective, **idle)
        guided = dataclasses.replace(config, objective=objective, **idle | {key: value})
        for task, needed in (("hopper-medium", models), ("maze2d-large", ()), ("multi2d-large", ())):
            assert unguided.models(get_task(task)) == needed
            # Only the states of clean plans are predicted, and only where something is maximised.
            asked = key != "model_rollout" or (needed and objective != "plan_value")
            assert guided.models(get_task(task)) == (("dynamics", *needed) if asked else needed)


def test_calibration_needs_the_models_of_every_setting():
    config = CalibrateConfig.resolve(PARAMS, get_task("hopper-medium"), get_method("diffuser"))
    assert config.models_read(get_task("hopper-medium")) == ("dynamics", "reward", "value", "plan_value")
    assert config.models_read(get_task("maze2d-large")) == ("dynamics",)
    assert config.models(get_task("hopper-medium")) == ("plan_value",)  # a planner of its own setting needs no more


def test_with_a_goal_nothing_is_read_of_what_is_maximised():
    without, with_goal = get_task("hopper-medium"), get_task("maze2d-large")
    config = EvaluateConfig.resolve(PARAMS, without)
    assert config.read_for(without) == dataclasses.asdict(config)
    assert set(EvaluateConfig.parameters()) - set(EvaluateConfig.resolve(PARAMS, with_goal).read_for(with_goal)) == {
        "objective", "model_rollout", "discount", "termination_penalty", "guide_limit",
    }  # fmt: skip
    for kind in (SegmentConfig, TrainConfig):
        assert set(kind.resolve(PARAMS, with_goal).read_for(with_goal)) == set(kind.parameters())


def test_scores_are_d4rls():
    assert get_task("hopper-medium").score(3234.3) == pytest.approx(100)
    assert get_task("multi2d-umaze").score(23.85) == pytest.approx(0)


def test_command_line_names_an_unknown_task_and_a_missing_file(capsys, tmp_path):
    output = str(tmp_path / "out.h5")
    assert main(["segment", "hoper-medium", "--raw", "x", "--output", output]) == 1
    assert re.search("hoper-medium: unknown task; choose one of .*halfcheetah-medium", capsys.readouterr().err)
    assert main(["segment", "hopper-medium", "--raw", str(tmp_path / "no.hdf5"), "--output", output]) == 1
    error = capsys.readouterr().err
    assert "no.hdf5" in error and len(error.splitlines()) == 1
    assert main(["segment", "hopper-medium", "--raw", "x", "--output", output, "--set", "alpha=1"]) == 1
    assert "alpha=1: not a parameter of this stage" in capsys.readouterr().err
    repeated = ["--set", "alpha=1", "--set", "held_out=0"]
    assert main(["segment", "hopper-medium", "--raw", "x", "--output", output, *repeated]) == 1
    assert "alpha=1: not a parameter of this stage" in capsys.readouterr().err
    files = ["--model", "x", "--statistics", "y", "--output", output]
    assert main(["evaluate", "hopper-medium", "wo_weighting", "0", *files, "--set", "alpha=1"]) == 1
    assert "y: cannot read" in capsys.readouterr().err
    assert main(["evaluate", "hopper-medium", "diffuser", "0", *files, "--set", "objective=value"]) == 1
    assert "objective=value: diffuser fixes objective at plan_value; leave it out" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
