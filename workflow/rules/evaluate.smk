# Networks → scores; errors of their plans; scores under other guides; pictures of their plans.


PLANNERS = methods(lambda method: method.is_planner)
# Stage → the folder of its scores, the minutes that a job may take, its methods.
SCORING = {
    "evaluate": ("eval", 720, methods()),
    "consistency": ("consistency", 60, methods(lambda method: method.plans)),
    "calibrate": ("calibrate", 720, PLANNERS),
}

for stage, (folder, minutes, scored) in SCORING.items():

    rule:
        name:
            stage
        input:
            unpack(inputs(stage)),
        output:
            scores=f"results/{folder}/{{method}}/{{task}}/seed{{seed}}.json",
        log:
            f"logs/{stage}/{{method}}/{{task}}/seed{{seed}}.log",
        benchmark:
            f"logs/{stage}/{{method}}/{{task}}/seed{{seed}}.tsv"
        wildcard_constraints:
            method=scored,
        conda:
            "../envs/dmemm.yaml"
        threads: 1
        resources:
            mem_mb=growing(6000),
            runtime=growing(minutes),
            gpu=GPU,
        params:
            command=stage,
            files=options,
            set=settings(stage),
            origin=origin(stage),
            own=contents(stage),
        shell:
            "python -m dmemm {params.command:q} {wildcards.task} {wildcards.method} {wildcards.seed} {params.files:q}"
            " --output {output.scores} --set {params.set:q} > {log} 2>&1"


# Built on demand: results/pictures/dmemm/maze2d-umaze/seed0.png.
rule pictures:
    input:
        unpack(inputs("pictures")),
    output:
        page=shown(
            "results/pictures/{method}/{task}/seed{seed}.html",
            "pictures",
            "Plans",
            task="{task}",
            method="{method}",
            seed="{seed}",
        ),
        png="results/pictures/{method}/{task}/seed{seed}.png",
        denoising="results/pictures/{method}/{task}/seed{seed}.denoising.png",
        gif="results/pictures/{method}/{task}/seed{seed}.gif",
    log:
        "logs/pictures/{method}/{task}/seed{seed}.log",
    benchmark:
        "logs/pictures/{method}/{task}/seed{seed}.tsv"
    wildcard_constraints:
        method=PLANNERS,
    conda:
        "../envs/dmemm.yaml"
    threads: 1
    resources:
        mem_mb=growing(6000),
        runtime=growing(60),
        gpu=GPU,
    params:
        files=options,
        set=settings("pictures"),
        origin=origin("pictures"),
        own=contents("pictures"),
    shell:
        "python -m dmemm pictures {wildcards.task} {wildcards.method} {wildcards.seed} {params.files:q}"
        " --output {output.png} --denoising {output.denoising} --animation {output.gif} --page {output.page}"
        " --set {params.set:q} > {log} 2>&1"
