# Data → transition ensemble, reward model, values, diffusion networks.

# Rules that differ by a variable are made in functions: Snakemake evaluates `shell:` when the job runs, and a loop's
# variable would have its last value by then.


def mechanism_rule(stage, suite, config_class, weights):
    # It reads the raw data only: another horizon does not retrain it.
    rule:
        name:
            f"{stage}_{suite}"
        input:
            task=TASK,
            raw=RAW,
            code="results/code/mechanisms.txt",
        output:
            weights=weights,
            report=weights.replace(".safetensors", ".json"),
            curve=f"results/mechanisms/{{task}}/{stage}.csv",
        wildcard_constraints:
            task=OF_SUITE[suite],
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
            **assignments(config, config_class.parameters(), suite=suite),
        shell:
            f"python -m dmemm {stage} {{wildcards.task}} --raw {{input.raw}} --output {{output.weights}}"
            " --report {output.report} --curve {output.curve} --set {params:q} > {log} 2>&1"


for suite in SUITES:
    mechanism_rule("dynamics", suite, DynamicsConfig, DYNAMICS)
    mechanism_rule("reward", suite, RewardConfig, REWARD)
mechanism_rule("value", "locomotion", ValueConfig, VALUES["value"])


rule plan_value_locomotion:
    input:
        task=TASK,
        raw=RAW,
        segments=SEGMENTS,
        value=VALUES["value"],
        code="results/code/plan_value.txt",
    output:
        weights=VALUES["plan_value"],
        report=VALUES["plan_value"].replace(".safetensors", ".json"),
        curve="results/mechanisms/{task}/plan_value.csv",
    wildcard_constraints:
        task=OF_SUITE["locomotion"],
    log:
        "logs/plan_value/{task}.log",
    benchmark:
        "logs/plan_value/{task}.tsv"
    threads: 1
    resources:
        mem_mb=growing(4000),
        runtime=growing(240),
        gpu=GPU,
    params:
        **assignments(config, PlanValueConfig.parameters(), suite="locomotion"),
    shell:
        "python -m dmemm plan-value {wildcards.task} --raw {input.raw} --segments {input.segments} --value {input.value}"
        " --output {output.weights} --report {output.report} --curve {output.curve} --set {params:q} > {log} 2>&1"


# The variants with a network of their own, and the points of Figure 1, which fix one weight to the {value} in their path.
# A parameter that a variant fixes is none of its rule's: changing it reruns nothing of the variant.
NETWORKS = {name: variant for name, variant in VARIANTS.items() if variant.network == name}
POINTS = {key: Variant(f"{key}={{value}}", f"{key}={{value}}", {key: "{value}"}) for key in ("lambda_tr", "lambda_rd")}


def train_rule(name, variant, suite, results="results"):
    rule:
        name:
            f"train_{name}_{suite}"
        input:
            task=TASK,
            raw=RAW,
            segments=SEGMENTS,
            **({"dynamics": DYNAMICS, "reward": REWARD} if variant.modulated else {}),
            code="results/code/train.txt",
        output:
            model=f"{results}/models/{{task}}/{variant.name}/seed{{seed}}.safetensors",
            curve=f"{results}/curves/{{task}}/{variant.name}/seed{{seed}}.csv",
            report=f"{results}/training/{{task}}/{variant.name}/seed{{seed}}.json",
        wildcard_constraints:
            task=OF_SUITE[suite],
        log:
            f"logs/train/{{task}}/{variant.name}/seed{{seed}}.log",
        benchmark:
            f"logs/train/{{task}}/{variant.name}/seed{{seed}}.tsv"
        threads: 1
        resources:
            mem_mb=growing(6000),
            runtime=growing(2880),
            gpu=GPU,
        params:
            *fixed_assignments(TrainConfig.parameters(), variant.fixed),
            **assignments(config, TrainConfig.parameters(), variant.fixed, suite),
        shell:
            f"python -m dmemm train {{wildcards.task}} {argument(variant.name)} {{wildcards.seed}}"
            + " --raw {input.raw} --segments {input.segments}"
            + (" --dynamics {input.dynamics} --reward {input.reward}" if variant.modulated else "")
            + " --output {output.model} --curve {output.curve} --report {output.report} --set {params:q} > {log} 2>&1"


for name, variant in (NETWORKS | POINTS).items():
    for suite in SUITES:
        train_rule(name, variant, suite)
