# Data → transition ensemble, reward model, values; then each method's own networks.


# A function, as Snakemake evaluates `shell:` when the job runs: a loop's variable would have its last value by then.
def mechanism_rule(stage, tasks):
    weights, command = PATHS[stage], stage.replace("_", "-")

    rule:
        name:
            stage
        input:
            unpack(inputs(stage)),
        output:
            weights=weights,
            report=weights.replace(".safetensors", ".json"),
            curve=weights.replace(".safetensors", ".csv"),
        wildcard_constraints:
            task=tasks,
        log:
            f"logs/{stage}/{{task}}.log",
        benchmark:
            f"logs/{stage}/{{task}}.tsv"
        threads: 1
        resources:
            mem_mb=growing(4000),
            runtime=growing(240),
            gpu=GPU,
        params:
            files=options,
            set=settings(stage),
            origin=origin(stage),
        shell:
            f"python -m dmemm {command} {{wildcards.task}} {{params.files:q}} --output {{output.weights}}"
            " --report {output.report} --curve {output.curve} --set {params.set:q} > {log} 2>&1"


mechanism_rule("dynamics", WITH_DATA)
mechanism_rule("reward", WITH_DATA)
mechanism_rule("value", WITHOUT_GOAL)
mechanism_rule("plan_value", WITHOUT_GOAL)


rule train:
    input:
        unpack(inputs("train")),
        # The versions of d3rlpy's environment.
        versions=lambda wildcards: ["requirements-methods.lock"] * get_method(wildcards.method).by_d3rlpy,
    output:
        model=PATHS["model"],
        curve="results/curves/{task}/{method}/seed{seed}.csv",
        report="results/training/{task}/{method}/seed{seed}.json",
    wildcard_constraints:
        task=WITH_DATA,
    log:
        "logs/train/{task}/{method}/seed{seed}.log",
    benchmark:
        "logs/train/{task}/{method}/seed{seed}.tsv"
    threads: 1
    resources:
        mem_mb=growing(6000),
        runtime=growing(2880),
        gpu=GPU,
    params:
        files=options,
        set=settings("train"),
        origin=origin("train"),
        own=contents("train"),
    shell:
        "python -m dmemm train {wildcards.task} {wildcards.method} {wildcards.seed} {params.files:q}"
        " --output {output.model} --curve {output.curve} --report {output.report} --set {params.set:q} > {log} 2>&1"
