# Networks → scores; errors of their plans; scores under other guides; pictures of their plans.


# A function, as Snakemake evaluates `shell:` when the job runs: a loop's variable would have its last value by then.
def evaluate_rule(stage, folder, minutes):
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
        threads: 1
        resources:
            mem_mb=growing(6000),
            runtime=growing(minutes),
            gpu=GPU,
        params:
            files=options,
            set=settings(stage),
            origin=origin(stage),
            own=contents(stage),
        shell:
            f"python -m dmemm {stage} {{wildcards.task}} {{wildcards.method}} {{wildcards.seed}} {{params.files:q}}"
            " --output {output.scores} --set {params.set:q} > {log} 2>&1"


evaluate_rule("evaluate", "eval", minutes=720)
evaluate_rule("consistency", "consistency", minutes=60)
evaluate_rule("calibrate", "calibrate", minutes=720)


# Built on demand: results/pictures/dmemm/maze2d-umaze/seed0.png.
def picture(suffix, shown):
    return report(
        f"results/pictures/{{method}}/{{task}}/seed{{seed}}{suffix}",
        caption="../report/pictures.rst",
        category="Plans",
        labels={"task": "{task}", "method": "{method}", "seed": "{seed}", "picture": shown},
    )


rule pictures:
    input:
        unpack(inputs("pictures")),
    output:
        png=picture(".png", "plans"),
        denoising=picture(".denoising.png", "from noise"),
        gif="results/pictures/{method}/{task}/seed{seed}.gif",
    log:
        "logs/pictures/{method}/{task}/seed{seed}.log",
    benchmark:
        "logs/pictures/{method}/{task}/seed{seed}.tsv"
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
        " --output {output.png} --denoising {output.denoising} --animation {output.gif} --set {params.set:q}"
        " > {log} 2>&1"
