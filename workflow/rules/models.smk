# Data → transition ensemble, reward model, values; then each method's own networks.


# Stage → the tasks that have it.
MECHANISM_STAGES = {
    "dynamics": WITH_DATA,
    "reward": WITH_DATA,
    "value": WITHOUT_GOAL,
    "plan_value": WITHOUT_GOAL,
}

# `shell:` is evaluated later, when a loop's variables have their last values; `params:` is evaluated here.
for stage, tasks in MECHANISM_STAGES.items():

    rule:
        name:
            stage
        input:
            unpack(inputs(stage)),
        output:
            weights=PATHS[stage],
            report=PATHS[stage].replace(".safetensors", ".json"),
            curve=PATHS[stage].replace(".safetensors", ".csv"),
        log:
            f"logs/{stage}/{{task}}/seed{{seed}}.log",
        benchmark:
            f"logs/{stage}/{{task}}/seed{{seed}}.tsv"
        wildcard_constraints:
            task=tasks,
        conda:
            "../envs/dmemm.yaml"
        threads: 1
        resources:
            mem_mb=growing(4000),
            runtime=growing(240),
            gpu=GPU,
        params:
            command=stage.replace("_", "-"),
            files=options,
            set=settings(stage),
            origin=origin(stage),
        shell:
            "python -m dmemm {params.command:q} {wildcards.task} {wildcards.seed} {params.files:q}"
            " --output {output.weights} --report {output.report} --curve {output.curve} --set {params.set:q} > {log} 2>&1"


rule train:
    input:
        unpack(inputs("train")),
        # The versions of d3rlpy's environment.
        versions=lambda wildcards: ["requirements-methods.lock"] * get_method(wildcards.method).by_d3rlpy,
    output:
        model=PATHS["model"],
        curve="results/curves/{task}/{method}/seed{seed}.csv",
        report="results/training/{task}/{method}/seed{seed}.json",
    log:
        "logs/train/{task}/{method}/seed{seed}.log",
    benchmark:
        "logs/train/{task}/{method}/seed{seed}.tsv"
    wildcard_constraints:
        task=WITH_DATA,
    conda:
        "../envs/dmemm.yaml"
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
