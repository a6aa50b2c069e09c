# From data sets to tables: `snakemake --cores all` builds everything, `snakemake --cores all PATH` one file.
# Every parameter is in params.yaml. dvc.yaml versions the results in phases, each of which calls Snakemake.
include: "workflow/rules/common.smk"


report: "workflow/report/workflow.rst"


# Used only with `--software-deployment-method apptainer`; `make image` builds it.
container: "dmemm.sif"


rule all:
    input:
        expand("results/{table}.csv", table=["table1", "table2", "table3", "intervals", "training", "consistency"]),
        expand("results/{figure}.png", figure=["figure1", "curves", "consistency"]),
        "results/metrics.json",


include: "workflow/rules/data.smk"
include: "workflow/rules/models.smk"
include: "workflow/rules/evaluate.smk"
include: "workflow/rules/report.smk"
include: "workflow/rules/phases.smk"
include: "workflow/rules/dvc.smk"
