# Which setting works: every choice of the transition loss, trained and planned with like a variant. Built on demand
# (`snakemake results/estimators.csv`); its files are results to look at, of no pipeline, so dvc.yaml leaves them out.
STUDY = {
    "predict": ["sample", "epsilon"],
    "denoise": ["paper", "ddim", "tweedie"],
    "modulation_weight": ["uniform", "snr"],
    "lambda_tr": ["0.1", "1"],
}
FIXED = VARIANTS["diffuser"].fixed
CHOICES = {
    "study": Variant("-".join(f"{{{key}}}" for key in STUDY), "-".join(f"{{{key}}}" for key in STUDY), FIXED | STUDY),
    "study_plain": Variant("{predict}-plain", "{predict}-plain", FIXED | {"predict": STUDY["predict"]}),
}
CELLS = expand("{predict}-plain", **STUDY) + expand(CHOICES["study"].name, **STUDY)


wildcard_constraints:
    **{key: "|".join(values) for key, values in STUDY.items()},


def consistency_rule(name, variant, results="results"):
    rule:
        name:
            f"consistency_{name}"
        input:
            task=TASK,
            model=f"{results}/models/{{task}}/{variant.network}/seed{{seed}}.safetensors",
            dynamics=DYNAMICS,
            reward=REWARD,
            raw=RAW,
            segments=SEGMENTS,
            code=sources("dmemm.evaluation.consistency", "dmemm.variants"),
        output:
            consistency=f"{results}/consistency/{variant.name}/{{task}}/seed{{seed}}.json",
        log:
            f"logs/consistency/{variant.name}/{{task}}/seed{{seed}}.log",
        benchmark:
            f"logs/consistency/{variant.name}/{{task}}/seed{{seed}}.tsv"
        threads: 1
        resources:
            mem_mb=6000,
            runtime=60,
            gpu=GPU,
        params:
            **assignments(config, EvaluateConfig.parameters(), variant.fixed),
        shell:
            f"python -m dmemm consistency {{wildcards.task}} {argument(variant.name)} {{wildcards.seed}}"
            " --model {input.model} --dynamics {input.dynamics} --reward {input.reward} --raw {input.raw}"
            " --segments {input.segments} --output {output.consistency} --set {params:q} > {log} 2>&1"


for name, variant in CHOICES.items():
    train_rule(name, variant, "results/study")
    evaluate_rule(name, variant, "results/study")
    consistency_rule(name, variant, "results/study")


rule estimators:
    input:
        scores=expand(
            "results/study/eval/{variant}/{task}/seed{seed}.json",
            task=config["study_tasks"], variant=CELLS, seed=config["study_seeds"],
        ),
        consistency=expand(
            "results/study/consistency/{variant}/{task}/seed{seed}.json",
            task=config["study_tasks"], variant=CELLS, seed=config["study_seeds"],
        ),
        code=sources("dmemm.reporting.study"),
    output:
        csv="results/estimators.csv",
        markdown="results/estimators.md",
        figure="results/estimators.png",
    log:
        "logs/estimators.log",
    benchmark:
        "logs/estimators.tsv"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
        gpu=0,
    params:
        **assignments(config, ["study_tasks", "study_seeds"]),
    shell:
        "python -m dmemm study --scores {input.scores} --consistency {input.consistency}"
        " --csv {output.csv} --markdown {output.markdown} --figure {output.figure} > {log} 2>&1"
