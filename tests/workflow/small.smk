# Three rules, small enough to try everything that goes wrong. Files named fail-TASK, slow and edit-code steer them.
# `sleep`: what Snakemake records as a job's time is the difference of two files' times, which tick every few ms.
include: "workflow/rules/common.smk"


LAMBDA_TR, ALPHA = (assignment(key, config[key]) for key in ("lambda_tr", "alpha"))
WANTED = dict(task=config["tasks"]["locomotion"], seed=config["seeds"])
MODELS = expand("results/models/{task}/seed{seed}.txt", **WANTED)
SCORES = expand("results/eval/dmemm/{task}/seed{seed}.json", **WANTED)


rule all:
    input:
        "results/table.csv",


rule train:
    input:
        code="code.py",
    output:
        model="results/models/{task}/seed{seed}.txt",
        constant="results/models/{task}/seed{seed}.csv",
    params:
        set=LAMBDA_TR,
    shell:
        "sleep 0.02; if test -e slow -o -e results/models/{wildcards.task}/seed{wildcards.seed}.checkpoint.safetensors;"
        " then python slow.py {output.model}; fi;"
        " test ! -e fail-{wildcards.task}; echo {params} > {output.model}; echo step > {output.constant}"


rule evaluate:
    input:
        model="results/models/{task}/seed{seed}.txt",
    output:
        scores="results/eval/dmemm/{task}/seed{seed}.json",
    params:
        set=ALPHA,
        origin=digest_of([ALPHA, LAMBDA_TR]),
    shell:
        "sleep 0.02;"
        "cat {input.model} > {output.scores}; echo {params.set} >> {output.scores}"


rule table1:
    input:
        scores=SCORES,
    output:
        csv="results/table.csv",
    params:
        origin=digest_of([ALPHA, LAMBDA_TR]),
    shell:
        "sleep 0.02; cat {input.scores} > {output.csv}; if test -e edit-code; then sleep 0.1; echo edited > code.py; fi"


rule all_train:
    input:
        MODELS,


rule all_evaluate:
    input:
        SCORES,


include: "workflow/rules/dvc.smk"
