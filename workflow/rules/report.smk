# Scores → tables, intervals, figures, metrics. Rows and columns come in the order of params.yaml's lists.

# What is gathered: a pattern of files, and the stage that makes them.
SCORES = ("results/eval/{method}/{task}/seed{seed}.json", "evaluate")
CURVES = ("results/curves/{task}/{method}/seed{seed}.csv", "train")
RECORDS = ("results/training/{task}/{method}/seed{seed}.json", "train")
ERRORS = ("results/consistency/{method}/{task}/seed{seed}.json", "consistency")
CALIBRATIONS = ("results/calibrate/{method}/{task}/seed{seed}.json", "calibrate")
MECHANISMS = {name: (PATHS[name].replace(".safetensors", ".csv"), name) for name in ("dynamics", "reward", "value", "plan_value")}


def gather(what, tasks, methods=(None,), seeds=config["seeds"]):
    """Files of each task and method: path → the job that makes it."""
    pattern, stage = what
    return {
        pattern.format(task=task, method=method, seed=seed): (stage, task, method)
        for task in tasks
        for method in methods
        for seed in (seeds if "{seed}" in pattern else seeds[:1])
    }


def outputs(stem, label, tables, figures):
    """A table in its formats, a figure in its formats; the report shows the page and the PNG."""

    def shown(kind, category, what):
        caption = f"../report/{stem.partition('/')[0]}.rst"
        return report(f"results/{stem}.{kind}", caption=caption, category=category, labels={what: label})

    files = {}
    if tables:
        files |= {"csv": f"results/{stem}.csv", "md": f"results/{stem}.md"}
        files |= {"html": shown("html", "Tables", "table"), "tex": f"results/{stem}.tex"}
    if figures:
        files |= {"png": shown("png", "Figures", "figure"), "pdf": f"results/{stem}.pdf"}
    return files


def report_rule(stem, label, command, module, gathered, tables=True, figures=False, reads={}, writes={}, arguments=(), name=None):
    """A rule that makes tables and figures of gathered files; `arguments` are of its command, as params.yaml has them."""
    # A pattern of tasks stands in the paths of what is gathered only as in the stem.
    jobs = {job for files in gathered.values() for job in files.values()}
    made_from = lambda wildcards: digest_of(
        [digest(module)]
        + sorted(PIPELINE.origin(s, t.format(**wildcards), m) for s, t, m in jobs)
    )
    inputs = "".join(f" --{name} {{input.{name}:q}}" for name in (*gathered, *reads))
    long = "".join(f" --{name} {{output.{name}}}" for name in writes)
    files = outputs(stem, label, tables, figures)

    rule:
        name:
            name or stem.replace("/{task}", "_task")
        input:
            **{name: list(files) for name, files in gathered.items()},
            **reads,
        output:
            **files,
            **writes,
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
            arguments=list(arguments),
            origin=made_from,
        shell:
            f"python -m dmemm {command} {{params.arguments:q}}{inputs}"
            + f" --outputs {' '.join(f'{{output.{name}}}' for name in files)}{long} > {{log}} 2>&1"


PUBLISHED = {"published": "workflow/resources/published.csv"}
LOCOMOTION, MAZES = config["tasks"]["locomotion"], config["tasks"]["maze"]
TABLES = {
    # number: (what the report calls it, score files)
    1: ("1: Locomotion", gather(SCORES, LOCOMOTION, COLUMNS)),
    2: ("2: Mazes", gather(SCORES, [*MAZES, *(f"multi2d-{maze}" for maze in config["mazes"])], COLUMNS)),
    3: ("3: Ablations", gather(SCORES, config["ablation_tasks"], ["dmemm", *ABLATIONS])),
}
for number, (label, scores) in TABLES.items():
    report_rule(
        f"table{number}", label, f"table {number}", "dmemm.reporting.tables", {"scores": scores},
        reads=PUBLISHED, writes={"long": f"results/table{number}_long.csv"},
    )

BOTH = TABLES[1][1] | TABLES[2][1]
report_rule("intervals", "1 and 2: intervals", "intervals", "dmemm.reporting.intervals", {"scores": BOTH})
# Asked for by its path: with tasks of one's own alone there is nothing published to rank.
report_rule(
    "ranking", "1 and 2: ranking", "ranking", "dmemm.reporting.ranking", {"scores": BOTH}, reads=PUBLISHED
)
report_rule(
    "training", "Training", "training", "dmemm.reporting.cost",
    {"records": gather(RECORDS, ROWS, COLUMNS), "scores": gather(SCORES, ROWS, COLUMNS)},
)

# `dmemm` is the point at lambda_tr and lambda_rd themselves.
WEIGHTS = ("lambda_tr", "lambda_rd")
POINTS = [f"{key}={value}" for key in WEIGHTS for value in config[f"sensitivity_{key}"] if value != config[key]]
report_rule(
    "figure1", "1: Sensitivity", "figure", "dmemm.reporting.figures",
    {"scores": gather(SCORES, config["sensitivity_tasks"], ["dmemm", *POINTS])}, tables=False, figures=True,
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
            for method in ["diffuser", "dmemm", *ABLATIONS]
        )
    ]
    for name in MECHANISMS
}
NEEDED["value"] = list(dict.fromkeys(NEEDED["value"] + NEEDED["plan_value"]))  # which is trained with it
LEARNING = [gather(MECHANISMS[name], tasks) for name, tasks in NEEDED.items()]
report_rule(
    "curves", "Learning curves", "curves", "dmemm.reporting.curves",
    {"curves": NETWORKS, "mechanisms": {path: job for files in LEARNING for path, job in files.items()}},
    tables=False, figures=True,
)

# Are their plans possible? Of every method that has scores in a table and plans.
PLANNING = [name for name in COLUMNS if get_method(name).plans]
CONSISTENCY = gather(ERRORS, ROWS, PLANNING) | gather(ERRORS, config["ablation_tasks"], ABLATIONS)
report_rule(
    "consistency", "Are the plans possible?", "consistency-table", "dmemm.reporting.plan_errors",
    {"consistency": CONSISTENCY}, figures=True, name="consistency_table",
)

# On demand: which guide plans best, with every setting of `guide_grid`; of one task, results/guide/TASK.csv.
for stem, label, tasks in (("guide", "Which guide", LOCOMOTION), ("guide/{task}", "Which guide, {task}", ["{task}"])):
    report_rule(
        stem, label, "guide", "dmemm.reporting.guide",
        {"calibrations": gather(CALIBRATIONS, tasks, ["diffuser", "dmemm"])}, figures=True,
    )

# On demand: which choices of the method work, each trained and planned with like a variant.
STUDIED = [f"{predict}-plain" for predict in ("sample", "epsilon")] + [
    f"{predict}-{denoise}-{weight}-{lambda_tr}"
    for predict in ("sample", "epsilon")
    for denoise in ("paper", "ddim", "tweedie")
    for weight in ("uniform", "snr")
    for lambda_tr in ("0.1", "1")
]
report_rule(
    "estimators", "Which setting works", "study", "dmemm.reporting.study",
    {
        "scores": gather(SCORES, config["study_tasks"], STUDIED, config["study_seeds"]),
        "consistency": gather(ERRORS, config["study_tasks"], STUDIED, config["study_seeds"]),
    },
    figures=True,
)


rule metrics:
    input:
        tables=["results/table1.csv", "results/table2.csv"],
    output:
        metrics="results/metrics.json",
    log:
        "logs/metrics.log",
    threads: 1
    resources:
        mem_mb=growing(1000),
        runtime=growing(10),
        gpu=0,
    params:
        code=digest("dmemm.reporting.tables"),
    shell:
        "python -m dmemm metrics --tables {input.tables} --output {output.metrics} > {log} 2>&1"
