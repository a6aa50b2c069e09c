"""The files of a stage: those that are not given, and those of the pipeline."""

from dataclasses import fields
from pathlib import Path

import pytest

from dmemm.errors import UserError
from dmemm.inputs import PATHS, Inputs, in_pipeline


def test_what_is_needed_and_not_given_is_named_as_its_option() -> None:
    inputs = Inputs(raw=Path("a.hdf5"))
    assert inputs.need("raw") == Path("a.hdf5")
    for name in (field.name for field in fields(Inputs) if field.name != "raw"):
        with pytest.raises(UserError, match=f"^--{name.replace('_', '-')}: missing; the method needs this file$"):
            inputs.need(name)


def test_each_input_has_its_place_in_the_pipeline() -> None:
    assert {field.name for field in fields(Inputs)} == set(PATHS)
    assert in_pipeline(["model", "plan_value"], "hopper-medium", "dmemm", 3) == Inputs(
        model=Path("results/models/hopper-medium/dmemm/seed3.safetensors"),
        plan_value=Path("results/plan_value/hopper-medium/seed3.safetensors"),
    )
