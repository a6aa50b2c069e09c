# Three rules, small enough to try everything that goes wrong. Files named fail-TASK, slow and edit-code steer them.
include: "workflow/rules/common.smk"

rule all:
    input:
        "results/table.csv",

rule train_dmemm_locomotion:
    input:
        code="code.py",
    output:
        model="results/models/{task}/seed{seed}.txt",
        constant="results/models/{task}/seed{seed}.csv",
    params:
        **assignments(config, ["lambda_tr"]),
    shell:
        "if test -e slow -o -e results/models/{wildcards.task}/seed{wildcards.seed}.checkpoint;"
        " then python slow.py {output.model}; fi;"
        " test ! -e fail-{wildcards.task}; echo {params} > {output.model}; echo step > {output.constant}"

rule evaluate_dmemm_locomotion:
    input:
        model="results/models/{task}/seed{seed}.txt",
    output:
        scores="results/eval/dmemm/{task}/seed{seed}.json",
    params:
        **assignments(config, ["alpha"]),
    shell:
        "cat {input.model} > {output.scores}; echo {params} >> {output.scores}"

rule table:
    input:
        scores=expand("results/eval/dmemm/{task}/seed{seed}.json", task=config["tasks"]["locomotion"], seed=config["seeds"]),
    output:
        csv="results/table.csv",
    params:
        **assignments(config, ["tasks.locomotion", "seeds"]),
    shell:
        "cat {input.scores} > {output.csv}; if test -e edit-code; then sleep 0.1; echo edited > code.py; fi"

include: "workflow/rules/dvc.smk"
