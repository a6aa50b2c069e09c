# Networks → scores. A Multi2D task has no network of its own: it evaluates maze2d's with random goals.
MULTI2D = {f"multi2d_{name}": VARIANTS[name] for name in ("dmemm", "diffuser")}


def evaluate_rule(name, variant, suite, results="results"):
    multi2d = name in MULTI2D
    data, task = ("maze2d-{maze}", "multi2d-{maze}") if multi2d else ("{task}", "{task}")
    values, options = GUIDED_BY[suite]

    rule:
        name:
            f"evaluate_{name}" if multi2d else f"evaluate_{name}_{suite}"
        input:
            task=TASK.replace("{task}", task),
            model=f"{results}/models/{data}/{variant.network}/seed{{seed}}.safetensors",
            reward=REWARD.replace("{task}", data),
            **values,
            statistics=STATISTICS.replace("{task}", data),
            **({"dynamics": DYNAMICS.replace("{task}", data)} if variant.transition_guided else {}),
            code="results/code/evaluate.txt",
        output:
            scores=f"{results}/eval/{variant.name}/{task}/seed{{seed}}.json",
        wildcard_constraints:
            task=OF_SUITE[suite],
        log:
            f"logs/evaluate/{variant.name}/{task}/seed{{seed}}.log",
        benchmark:
            f"logs/evaluate/{variant.name}/{task}/seed{{seed}}.tsv"
        threads: 1
        resources:
            mem_mb=growing(6000),
            runtime=growing(720),
            gpu=GPU,
        params:
            *fixed_assignments(EvaluateConfig.parameters(), variant.fixed, suite),
            **assignments(config, EvaluateConfig.parameters(), variant.fixed, suite),
        shell:
            f"python -m dmemm evaluate {argument(task)} {argument(variant.name)} {{wildcards.seed}}"
            + " --model {input.model} --reward {input.reward} --statistics {input.statistics}"
            + options
            + (" --dynamics {input.dynamics}" if variant.transition_guided else "")
            + " --output {output.scores} --set {params:q} > {log} 2>&1"


for name, variant in (VARIANTS | POINTS).items():
    for suite in SUITES:
        evaluate_rule(name, variant, suite)
for name, variant in MULTI2D.items():
    evaluate_rule(name, variant, "maze")
