"""The registry of methods: names that are looked up, and what each method reads and fixes."""

from importlib import import_module

import pytest

from dmemm.errors import UserError
from dmemm.methods import METHODS, get_method

DIFFUSER = METHODS["diffuser"].fixed


@pytest.mark.parametrize("name", ["lambda_tr=0.01", "lambda_rd=1e-2", "lambda_tr=0", "lambda_rd=3", "lambda_tr=1E+1"])
def test_a_point_of_figure_1_fixes_one_weight_and_has_a_network_of_its_own(name: str) -> None:
    method = get_method(name)
    key, value = name.split("=")
    assert (method.name, method.label, dict(method.fixed)) == (name, name, {key: float(value)})
    assert method.trained and method.is_planner and method.plans


@pytest.mark.parametrize(
    ("name", "fixed"),
    [
        ("sample-plain", {"predict": "sample"}),
        ("epsilon-plain", {"predict": "epsilon"}),
        (
            "sample-paper-snr-0.1",
            {"predict": "sample", "denoise": "paper", "modulation_weight": "snr", "lambda_tr": 0.1},
        ),
        (
            "epsilon-tweedie-uniform-1e-3",  # the value holds the separator
            {"predict": "epsilon", "denoise": "tweedie", "modulation_weight": "uniform", "lambda_tr": 0.001},
        ),
    ],
)
def test_a_setting_of_the_study_is_diffuser_with_choices_of_output_and_loss(
    name: str, fixed: dict[str, str | float]
) -> None:
    method = get_method(name)
    assert dict(method.fixed) == {**DIFFUSER, "alpha": 0.0, **fixed} and method.trained and method.is_planner


@pytest.mark.parametrize(
    "name",
    [
        "", "os", "../x", "Dmemm", "dmemm ", "alpha=1",
        "lambda_tr=", "lambda_tr", "lambda_tr=-1", "lambda_rd=1e", "lambda_tr=nan", "lambda_tr=1e5x", "lambda_tr=1=2",
        "sample", "plain", "sample-", "score-plain", "sample-plain-1", "sample-paper-snr", "sample-paper-snr-",
        "sample-paper-snr-1e", "sample-paper-snr--1", "sample-paper-min-1", "sample-ours-snr-1",
    ],
)  # fmt: skip
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(UserError, match="unknown method; choose one of diffuser, dmemm, .*lambda_rd=VALUE"):
        get_method(name)


def test_every_method_is_planner_or_policy_and_has_what_it_names() -> None:
    for method in METHODS.values():
        assert METHODS[method.network].trained and METHODS[method.network].is_planner == method.is_planner
        assert callable(import_module(method.trainer).train) and callable(import_module(method.actor).load)
        if not method.is_planner:
            module = import_module(method.implementation)
            assert callable(module.train) and isinstance(module.Policy, type)
