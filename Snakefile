# From data sets to tables: `snakemake --cores all` builds everything, `snakemake --cores all PATH` one file.
# Every parameter is in params.yaml, which DVC reads too (dvc.yaml is generated from these rules: `make dvc.yaml`).
include: "workflow/rules/common.smk"


rule all:
    input:
        expand("results/table{number}.{kind}", number=[1, 2, 3], kind=["csv", "md"]),
        expand("results/figure1.{kind}", kind=["png", "pdf"]),
        "results/metrics.json",
        expand("results/consistency.{kind}", kind=["csv", "md", "png"]),


include: "workflow/rules/data.smk"
include: "workflow/rules/models.smk"
include: "workflow/rules/evaluate.smk"
include: "workflow/rules/report.smk"
include: "workflow/rules/consistency.smk"
include: "workflow/rules/pictures.smk"
include: "workflow/rules/study.smk"
include: "workflow/rules/dvc.smk"
