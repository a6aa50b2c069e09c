# The code behind the stages: results/code/STAGE.txt lists each module that the stage imports with the hash that git
# knows it by. One input where there would be dozens, in each of a thousand jobs; and a record of what made a result.
from workflow.imports import sources

MODULES = {
    "download": ["dmemm.data.download"],
    "segment": ["dmemm.data.segments"],
    "mechanisms": ["dmemm.training.mechanisms"],
    "plan_value": ["dmemm.training.plan_value"],
    "train": ["dmemm.training.train"],
    "evaluate": ["dmemm.evaluation.evaluate"],
    "consistency": ["dmemm.evaluation.consistency"],
    "calibrate": ["dmemm.evaluation.calibrate"],
    "pictures": ["dmemm.evaluation.pictures"],
    "tables": ["dmemm.reporting.tables"],
    "intervals": ["dmemm.reporting.intervals"],
    "ranking": ["dmemm.reporting.ranking"],
    "training": ["dmemm.reporting.training"],
    "figure1": ["dmemm.reporting.figures"],
    "curves": ["dmemm.reporting.curves"],
    "compare_consistency": ["dmemm.reporting.consistency"],
    "study": ["dmemm.reporting.study"],
    "guide": ["dmemm.reporting.guide"],
    **{f"train_{name}": ["dmemm.methods.base", f"dmemm.methods.{name}"] for name in METHODS},
    **{f"evaluate_{name}": ["dmemm.methods.evaluate", f"dmemm.methods.{name}"] for name in METHODS},
    **{f"consistency_{name}": ["dmemm.methods.consistency", f"dmemm.methods.{name}"] for name in PLANNING},
}


def code_rule(stage, modules):
    rule:
        name:
            f"code_{stage}"
        input:
            sources(*modules),
        output:
            f"results/code/{stage}.txt",
        localrule: True
        shell:
            "git hash-object {input} | paste -d ' ' - <(printf '%s\\n' {input}) > {output}"


for stage, modules in MODULES.items():
    code_rule(stage, modules)
