# Plans to look at, built on demand: results/pictures/dmemm/maze2d-umaze/seed0.png. dvc.yaml leaves them out.
def pictures_rule(name, variant, suite):
    values, options = GUIDED_BY[suite]

    rule:
        name:
            f"pictures_{name}_{suite}"
        input:
            task=TASK,
            model=f"results/models/{{task}}/{variant.network}/seed{{seed}}.safetensors",
            dynamics=DYNAMICS,
            reward=REWARD,
            **values,
            code="results/code/pictures.txt",
        output:
            png=report(
                f"results/pictures/{variant.name}/{{task}}/seed{{seed}}.png",
                caption="../report/pictures.rst",
                category="Plans",
                labels={"task": "{task}", "variant": variant.name, "seed": "{seed}", "picture": "plans"},
            ),
            denoising=report(
                f"results/pictures/{variant.name}/{{task}}/seed{{seed}}.denoising.png",
                caption="../report/pictures.rst",
                category="Plans",
                labels={"task": "{task}", "variant": variant.name, "seed": "{seed}", "picture": "from noise"},
            ),
            gif=f"results/pictures/{variant.name}/{{task}}/seed{{seed}}.gif",
        wildcard_constraints:
            task=OF_SUITE[suite],
        log:
            f"logs/pictures/{variant.name}/{{task}}/seed{{seed}}.log",
        benchmark:
            f"logs/pictures/{variant.name}/{{task}}/seed{{seed}}.tsv"
        threads: 1
        resources:
            mem_mb=growing(6000),
            runtime=growing(60),
            gpu=GPU,
        params:
            *fixed_assignments(EvaluateConfig.parameters(), variant.fixed, suite),
            **assignments(config, EvaluateConfig.parameters(), variant.fixed, suite),
        shell:
            f"python -m dmemm pictures {{wildcards.task}} {argument(variant.name)} {{wildcards.seed}}"
            + " --model {input.model} --dynamics {input.dynamics} --reward {input.reward}"
            + options
            + " --output {output.png} --denoising {output.denoising} --animation {output.gif} --set {params:q} > {log} 2>&1"


for name, variant in VARIANTS.items():
    for suite in SUITES:
        pictures_rule(name, variant, suite)
