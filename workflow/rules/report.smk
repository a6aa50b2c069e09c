# Scores → tables, intervals, figures, metrics. Rows and columns come in the order of params.yaml's lists.
PUBLISHED = {"published": "workflow/resources/published.csv"}
LOCOMOTION, MAZES = config["tasks"]["locomotion"], config["tasks"]["maze"]
TABLES = {
    # number: (what the report calls it, score files)
    1: ("Table 1: Locomotion", gather(SCORES, LOCOMOTION, COLUMNS)),
    2: ("Table 2: Mazes", gather(SCORES, [*MAZES, *(f"multi2d-{maze}" for maze in config["mazes"])], COLUMNS)),
    3: ("Table 3: Ablations", gather(SCORES, config["ablation_tasks"], ["dmemm", *ABLATIONS])),
}
for number, (label, scores) in TABLES.items():
    add_report(
        f"table{number}",
        label,
        "table",
        "dmemm.reporting.tables",
        {"scores": scores},
        reads=PUBLISHED,
        writes={"long": f"results/table{number}_long.csv"},
        figures=True,
        arguments=[str(number)],
    )

BOTH = TABLES[1][1] | TABLES[2][1]
add_report("intervals", "Tables 1 and 2: intervals", "intervals", "dmemm.reporting.intervals", {"scores": BOTH})
# On demand: with your own tasks alone there is no published score to rank.
add_report(
    "ranking", "Tables 1 and 2: ranking", "ranking", "dmemm.reporting.ranking", {"scores": BOTH}, reads=PUBLISHED
)
add_report(
    "training",
    "Training",
    "training",
    "dmemm.reporting.cost",
    {"records": gather(RECORDS, ROWS, COLUMNS), "scores": gather(SCORES, ROWS, COLUMNS)},
)

# `dmemm` is the point at lambda_tr and lambda_rd themselves, Table 3's columns are those at 0.
WEIGHTS = ("lambda_tr", "lambda_rd")
POINTS = [
    f"{key}={value}" if value else f"wo_{key}"
    for key in WEIGHTS
    for value in config[f"sensitivity_{key}"]
    if value != config[key]
]
add_report(
    "figure1",
    "Figure 1: Sensitivity",
    "figure",
    "dmemm.reporting.figures",
    {"scores": gather(SCORES, config["sensitivity_tasks"], ["dmemm", *POINTS])},
    tables=False,
    figures=True,
    arguments=["--params", *(assignment(key, config[key]) for key in WEIGHTS)],
)

TRAINED_ABLATIONS = [name for name in ABLATIONS if get_method(name).trained]
NETWORKS = (
    gather(CURVES, ROWS, ["diffuser", "dmemm"])
    | gather(CURVES, config["ablation_tasks"], TRAINED_ABLATIONS)
    | gather(CURVES, config["sensitivity_tasks"], POINTS)
)
# The models that some network is trained, guided or measured with.
NEEDED = {
    name: [
        task
        for task in ROWS
        if any(
            name in PIPELINE.reads(stage, task, method)
            for stage in ("train", "evaluate", "consistency")
            for method in [
                *COLUMNS,
                *(ABLATIONS if task in config["ablation_tasks"] else ()),
                *(POINTS if task in config["sensitivity_tasks"] else ()),
            ]
        )
    ]
    for name in MECHANISMS
}
NEEDED["value"] = list(dict.fromkeys(NEEDED["value"] + NEEDED["plan_value"]))  # which is trained with it
LEARNING = [gather(MECHANISMS[name], tasks) for name, tasks in NEEDED.items()]
add_report(
    "curves",
    "Learning curves",
    "curves",
    "dmemm.reporting.curves",
    {"curves": NETWORKS, "mechanisms": {path: job for files in LEARNING for path, job in files.items()}},
    tables=False,
    figures=True,
)

# Are their plans possible? Of every method that has scores in a table and plans.
PLANNING = [name for name in COLUMNS if get_method(name).plans]
CONSISTENCY = gather(ERRORS, ROWS, PLANNING) | gather(ERRORS, config["ablation_tasks"], ABLATIONS)
add_report(
    "consistency",
    "Are the plans possible?",
    "consistency-table",
    "dmemm.reporting.plan_errors",
    {"consistency": CONSISTENCY},
    figures=True,
    name="consistency_table",
)

# On demand: which guide plans best, with every setting of `guide_grid`; of one task, results/guide/TASK.csv.
for name, stem, label, tasks in (
    ("guide", "guide", "Which guide", LOCOMOTION),
    ("guide_task", "guide/{task}", "Which guide, {task}", ["{task}"]),
):
    add_report(
        stem,
        label,
        "guide",
        "dmemm.reporting.guide",
        {"calibrations": gather(CALIBRATIONS, tasks, ["diffuser", "dmemm"])},
        figures=True,
        name=name,
    )

# On demand: which choices of the method work, each trained and planned with like a variant.
STUDIED = [f"{predict}-plain" for predict in ("sample", "epsilon")] + [
    f"{predict}-{denoise}-{weight}-{lambda_tr}"
    for predict in ("sample", "epsilon")
    for denoise in ("paper", "ddim", "tweedie")
    for weight in ("uniform", "snr")
    for lambda_tr in ("0.1", "1")
]
add_report(
    "estimators",
    "Which setting works",
    "study",
    "dmemm.reporting.study",
    {
        "scores": gather(SCORES, config["study_tasks"], STUDIED, config["study_seeds"]),
        "consistency": gather(ERRORS, config["study_tasks"], STUDIED, config["study_seeds"]),
    },
    figures=True,
)


for table in REPORTS:

    rule:
        name:
            table.name
        input:
            **table.input,
        output:
            **table.output,
        log:
            f"logs/{table.stem}.log",
        benchmark:
            f"logs/{table.stem}.tsv"
        conda:
            "../envs/dmemm.yaml"
        threads: 1
        resources:
            mem_mb=growing(1000),
            runtime=growing(10),
            gpu=0,
        params:
            command=table.command,
            files=table.files,
            origin=table.origin,
        shell:
            "python -m dmemm {params.command:q} {params.files:q} > {log} 2>&1"


rule metrics:
    input:
        tables=["results/table1.csv", "results/table2.csv"],
    output:
        metrics="results/metrics.json",
    log:
        "logs/metrics.log",
    conda:
        "../envs/dmemm.yaml"
    threads: 1
    resources:
        mem_mb=growing(1000),
        runtime=growing(10),
        gpu=0,
    params:
        code=digest("dmemm.reporting.tables"),
    shell:
        "python -m dmemm metrics --tables {input.tables} --output {output.metrics} > {log} 2>&1"
