"""The variants of the method: each is DMEMM with some parameters fixed (Tables 1 to 3, Figure 1)."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

from dmemm.errors import UserError


@dataclass(frozen=True)
class Variant:
    """DMEMM with the parameters in `fixed` overruled.

    A stage of the variant does not depend on the fixed keys, so changing them in params.yaml does not rerun it. Its
    rule records their values (workflow/stages.py), so this file is no stage's code.

    Attributes:
        name: in paths and tables.
        network: the variant whose trained network it plans with.
        fixed: parameter → value.
    """

    name: str
    network: str
    fixed: Mapping[str, float | str | bool]

    @property
    def modulated(self) -> bool:
        """Whether training needs the transition ensemble and the reward model."""
        return not (self.fixed.get("lambda_tr") == 0 and self.fixed.get("lambda_rd") == 0)

    @property
    def transition_guided(self) -> bool:
        """Whether planning needs the transition ensemble."""
        return not (self.fixed.get("lambda_guide") == 0 and self.fixed.get("veto") == 0)


_Fixed = dict[str, float | str | bool]

# Neither loss of eqs. 9 and 10; the ensemble neither guides nor chooses.
_UNMODULATED: _Fixed = {
    "lambda_tr": 0.0,
    "lambda_rd": 0.0,
    "reward_loss": False,
    "denoise": "tweedie",
    "modulation_weight": "uniform",
}
_UNGUIDED: _Fixed = {"lambda_guide": 0.0, "veto": 0.0}

VARIANTS: dict[str, Variant] = {
    variant.name: variant
    for variant in (
        Variant("dmemm", "dmemm", {}),
        Variant("diffuser", "diffuser", {**_UNMODULATED, **_UNGUIDED, "weighting": False, "objective": "plan_value"}),
        Variant("wo_weighting", "wo_weighting", {"weighting": False}),
        Variant("wo_lambda_tr", "wo_lambda_tr", {"lambda_tr": 0.0}),
        Variant("wo_lambda_rd", "wo_lambda_rd", {"lambda_rd": 0.0, "reward_loss": False}),
        Variant("wo_tr_guide", "dmemm", _UNGUIDED),
        Variant("only_weighting", "only_weighting", {**_UNMODULATED, **_UNGUIDED}),
    )
}

# Of the study of settings: Diffuser with a choice of output (`plain`), and with L_tr alone added to its loss.
_STUDY = re.compile(r"(sample|epsilon)-(?:plain|(paper|ddim|tweedie)-(uniform|snr)-([0-9.eE+-]+))")
_SENSITIVITY = re.compile(r"(lambda_tr|lambda_rd)=([0-9.eE+-]+)")


def get_variant(name: str) -> Variant:
    """Look a variant up by name; `lambda_tr=VALUE` and `lambda_rd=VALUE` are the points of Figure 1.

    Raises:
        UserError: no such variant.
    """
    if name in VARIANTS:
        return VARIANTS[name]
    point, study = _SENSITIVITY.fullmatch(name), _STUDY.fullmatch(name)
    try:
        if study:
            predict, denoise, modulation_weight, value = study.groups()
            fixed = {**VARIANTS["diffuser"].fixed, "predict": predict}
            if value is not None:
                fixed |= {"lambda_tr": float(value), "denoise": denoise, "modulation_weight": modulation_weight}
            return Variant(name, name, fixed)
        if point and float(point[2]) >= 0:
            return Variant(name, name, {point[1]: float(point[2])})
    except ValueError:
        pass
    raise UserError(f"{name}: unknown variant; choose one of {', '.join(VARIANTS)} or lambda_tr=VALUE, lambda_rd=VALUE")
