# Networks → are their plans possible? Of every variant that has scores in a table.


def consistency_rule(name, variant, suite, results="results"):
    values, options = GUIDED_BY[suite]

    rule:
        name:
            f"consistency_{name}_{suite}"
        input:
            task=TASK,
            model=f"{results}/models/{{task}}/{variant.network}/seed{{seed}}.safetensors",
            dynamics=DYNAMICS,
            reward=REWARD,
            **values,
            raw=RAW,
            segments=SEGMENTS,
            code="results/code/consistency.txt",
        output:
            consistency=f"{results}/consistency/{variant.name}/{{task}}/seed{{seed}}.json",
        wildcard_constraints:
            task=OF_SUITE[suite],
        log:
            f"logs/consistency/{variant.name}/{{task}}/seed{{seed}}.log",
        benchmark:
            f"logs/consistency/{variant.name}/{{task}}/seed{{seed}}.tsv"
        threads: 1
        resources:
            mem_mb=growing(6000),
            runtime=growing(60),
            gpu=GPU,
        params:
            *fixed_assignments(EvaluateConfig.parameters(), variant.fixed, suite),
            **assignments(config, EvaluateConfig.parameters(), variant.fixed, suite),
        shell:
            f"python -m dmemm consistency {{wildcards.task}} {argument(variant.name)} {{wildcards.seed}}"
            + " --model {input.model} --dynamics {input.dynamics} --reward {input.reward} --raw {input.raw}"
            + options
            + " --segments {input.segments} --output {output.consistency} --set {params:q} > {log} 2>&1"


for name, variant in VARIANTS.items():
    for suite in SUITES:
        consistency_rule(name, variant, suite)


def consistency_files():
    """Diffuser's, dmemm's and other methods' plans for every task, the other variants' for the tasks of Table 3."""
    everywhere = ["diffuser", "dmemm", *(name for name in config["methods"] if name in PLANNING)]
    others = [name for name in VARIANTS if name not in ("diffuser", "dmemm")]
    chosen = [(task, everywhere + others * (task in config["ablation_tasks"])) for task in ROWS]
    return [
        f"results/consistency/{variant}/{task}/seed{seed}.json"
        for task, variants in chosen
        for variant in variants
        for seed in config["seeds"]
    ]


rule consistency:
    input:
        consistency=consistency_files(),
        code="results/code/compare_consistency.txt",
    output:
        **table_outputs("consistency", "Are the plans possible?"),
        **figure_outputs("consistency", "Errors along the plans"),
    log:
        "logs/consistency.log",
    benchmark:
        "logs/consistency.tsv"
    threads: 1
    resources:
        mem_mb=growing(1000),
        runtime=growing(10),
        gpu=0,
    params:
        **assignments(config, ["tasks", "methods", "ablation_tasks", "seeds"]),
    shell:
        "python -m dmemm consistency-table --consistency {input.consistency} --outputs {output} > {log} 2>&1"
