# Which setting works: every choice of the transition loss, trained and planned with like a variant. Built on demand
# (`snakemake results/estimators.csv`); its files are results to look at, of no pipeline, so dvc.yaml leaves them out.
STUDY = {
    "predict": ["sample", "epsilon"],
    "denoise": ["paper", "ddim", "tweedie"],
    "modulation_weight": ["uniform", "snr"],
    "lambda_tr": ["0.1", "1"],
}
FIXED = VARIANTS["diffuser"].fixed
CHOSEN = {key: f"{{{key}}}" for key in STUDY}
CHOICES = {
    "study": Variant("-".join(CHOSEN.values()), "-".join(CHOSEN.values()), FIXED | CHOSEN),
    "study_plain": Variant("{predict}-plain", "{predict}-plain", FIXED | {"predict": "{predict}"}),
}
CELLS = expand("{predict}-plain", **STUDY) + expand(CHOICES["study"].name, **STUDY)


wildcard_constraints:
    **{key: "|".join(map(re.escape, values)) for key, values in STUDY.items()},


for name, variant in CHOICES.items():
    for suite in SUITES:
        train_rule(name, variant, suite, "results/study")
        evaluate_rule(name, variant, suite, "results/study")
        consistency_rule(name, variant, suite, "results/study")


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
        code="results/code/study.txt",
    output:
        **table_outputs("estimators", "Which setting works"),
        **figure_outputs("estimators", "Which setting works"),
    log:
        "logs/estimators.log",
    benchmark:
        "logs/estimators.tsv"
    threads: 1
    resources:
        mem_mb=growing(1000),
        runtime=growing(10),
        gpu=0,
    params:
        **assignments(config, ["study_tasks", "study_seeds"]),
    shell:
        "python -m dmemm study --scores {input.scores} --consistency {input.consistency} --outputs {output}"
        " > {log} 2>&1"
