# How to choose the guide: every variant's network under the settings of `guide_grid`, and their comparison. Built on demand
# (`snakemake results/guide.csv`, or results/guide/TASK.csv); dvc.yaml leaves it out.
def calibrate_rule(name, variant, suite):
    values, options = GUIDED_BY[suite]
    keys = [key for key in EvaluateConfig.parameters() if key != "episodes"]

    rule:
        name:
            f"calibrate_{name}_{suite}"
        input:
            task=TASK,
            model=f"results/models/{{task}}/{variant.network}/seed{{seed}}.safetensors",
            dynamics=DYNAMICS,
            reward=REWARD,
            **values,
            statistics=STATISTICS,
            code="results/code/calibrate.txt",
        output:
            scores=f"results/calibrate/{variant.name}/{{task}}/seed{{seed}}.json",
        wildcard_constraints:
            task=OF_SUITE[suite],
        log:
            f"logs/calibrate/{variant.name}/{{task}}/seed{{seed}}.log",
        benchmark:
            f"logs/calibrate/{variant.name}/{{task}}/seed{{seed}}.tsv"
        threads: 1
        resources:
            mem_mb=growing(6000),
            runtime=growing(720),
            gpu=GPU,
        params:
            *fixed_assignments(keys, variant.fixed, suite),
            **assignments(config, keys, variant.fixed, suite),
            **assignments(config, ["guide_grid", "guide_episodes"]),
        shell:
            f"python -m dmemm calibrate {{wildcards.task}} {argument(variant.name)} {{wildcards.seed}}"
            + " --model {input.model} --dynamics {input.dynamics} --reward {input.reward} --statistics {input.statistics}"
            + options
            + " --output {output.scores} --set {params:q} > {log} 2>&1"


for name, variant in VARIANTS.items():
    for suite in SUITES:
        calibrate_rule(name, variant, suite)


def guide_rule(name, stem, label, tasks, keys):
    rule:
        name:
            name
        input:
            calibrations=expand(
                "results/calibrate/{variant}/{task}/seed{seed}.json",
                task=tasks, variant=["diffuser", "dmemm"], seed=config["seeds"],
            ),
            code="results/code/guide.txt",
        output:
            **table_outputs(stem, label),
            **figure_outputs(stem, label),
        log:
            f"logs/{stem}.log",
        benchmark:
            f"logs/{stem}.tsv"
        threads: 1
        resources:
            mem_mb=growing(1000),
            runtime=growing(10),
            gpu=0,
        params:
            **assignments(config, keys),
        shell:
            "python -m dmemm guide --calibrations {input.calibrations} --outputs {output} > {log} 2>&1"


guide_rule("guide", "guide", "Which guide", config["tasks"]["locomotion"], ["tasks.locomotion", "seeds"])
guide_rule("guide_task", "guide/{task}", "Which guide, {task}", "{task}", ["seeds"])
