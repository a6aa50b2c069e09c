# Scores → tables, intervals, Figure 1, metrics; losses → learning curves. Rows and columns come in the order of params.yaml's lists.
PUBLISHED = "workflow/resources/published.csv"
# `dmemm` is the point at lambda_tr and lambda_rd themselves.
POINT_NAMES = [
    f"{key}={value}" for key in POINTS for value in config[f"sensitivity_{key}"] if value != config[key]
]


def scores(tasks, variants):
    return expand(
        "results/eval/{variant}/{task}/seed{seed}.json", task=tasks, variant=variants, seed=config["seeds"]
    )


ABLATIONS = [name for name in VARIANTS if name != "diffuser"]
COLUMNS = [*config["methods"], "diffuser", "dmemm"]
TABLES = {
    # number: (what the report calls it, keys of the lists it is made of, score files)
    1: (
        "1: Locomotion",
        ["tasks.locomotion", "methods", "seeds"],
        scores(config["tasks"]["locomotion"], COLUMNS),
    ),
    2: (
        "2: Mazes",
        ["tasks.maze", "mazes", "methods", "seeds"],
        scores(config["tasks"]["maze"] + [f"multi2d-{maze}" for maze in config["mazes"]], COLUMNS),
    ),
    3: (
        "3: Ablations",
        ["ablation_tasks", "seeds"],
        scores(config["ablation_tasks"], ABLATIONS),
    ),
}


def table_rule(number, label, keys, files):
    rule:
        name:
            f"table{number}"
        input:
            scores=files,
            published=PUBLISHED,
            code="results/code/tables.txt",
        output:
            **table_outputs(f"table{number}", label),
            **({"long": "results/table2_long.csv"} if number == 2 else {}),
        log:
            f"logs/table{number}.log",
        benchmark:
            f"logs/table{number}.tsv"
        threads: 1
        resources:
            mem_mb=growing(1000),
            runtime=growing(10),
            gpu=0,
        params:
            **assignments(config, keys),
        shell:
            f"python -m dmemm table {number}"
            " --scores {input.scores:q} --published {input.published}"
            " --outputs {output.csv} {output.markdown} {output.html} {output.latex}"
            + (" --long {output.long}" if number == 2 else "")
            + " > {log} 2>&1"


for number, (label, keys, files) in TABLES.items():
    table_rule(number, label, keys, files)


rule intervals:
    input:
        scores=[path for number in (1, 2) for path in TABLES[number][-1]],
        code="results/code/intervals.txt",
    output:
        **table_outputs("intervals", "1 and 2: intervals"),
    log:
        "logs/intervals.log",
    benchmark:
        "logs/intervals.tsv"
    threads: 1
    resources:
        mem_mb=growing(1000),
        runtime=growing(10),
        gpu=0,
    params:
        **assignments(config, ["tasks", "mazes", "methods", "seeds"]),
    shell:
        "python -m dmemm intervals --scores {input.scores:q} --outputs {output} > {log} 2>&1"


# Asked for by its path: with tasks of one's own alone there is nothing published to rank.
rule ranking:
    input:
        scores=[path for number in (1, 2) for path in TABLES[number][-1]],
        published=PUBLISHED,
        code="results/code/ranking.txt",
    output:
        **table_outputs("ranking", "1 and 2: ranking"),
    log:
        "logs/ranking.log",
    benchmark:
        "logs/ranking.tsv"
    threads: 1
    resources:
        mem_mb=growing(1000),
        runtime=growing(10),
        gpu=0,
    params:
        **assignments(config, ["tasks", "mazes", "methods", "seeds"]),
    shell:
        "python -m dmemm ranking --scores {input.scores:q} --published {input.published} --outputs {output}"
        " > {log} 2>&1"


rule training:
    input:
        records=expand(
            "results/training/{task}/{variant}/seed{seed}.json",
            task=ROWS, variant=COLUMNS, seed=config["seeds"],
        ),
        scores=scores(ROWS, COLUMNS),
        code="results/code/training.txt",
    output:
        **table_outputs("training", "Training"),
    log:
        "logs/training.log",
    benchmark:
        "logs/training.tsv"
    threads: 1
    resources:
        mem_mb=growing(1000),
        runtime=growing(10),
        gpu=0,
    params:
        **assignments(config, ["tasks", "methods", "seeds"]),
    shell:
        "python -m dmemm training --records {input.records:q} --scores {input.scores:q} --outputs {output}"
        " > {log} 2>&1"


rule figure1:
    input:
        scores=scores(config["sensitivity_tasks"], ["dmemm", *POINT_NAMES]),
        code="results/code/figure1.txt",
    output:
        **figure_outputs("figure1", "1: Sensitivity"),
    log:
        "logs/figure1.log",
    benchmark:
        "logs/figure1.tsv"
    threads: 1
    resources:
        mem_mb=growing(1000),
        runtime=growing(10),
        gpu=0,
    params:
        **assignments(config, ["lambda_tr", "lambda_rd"]),
        **assignments(config, ["sensitivity_tasks", "sensitivity_lambda_tr", "sensitivity_lambda_rd", "seeds"]),
    shell:
        "python -m dmemm figure --scores {input.scores:q} --params {params.lambda_tr:q} {params.lambda_rd:q}"
        " --outputs {output} > {log} 2>&1"


# Whose networks there are: tasks, variants.
TRAINED = [
    (ROWS, ["diffuser", "dmemm"]),
    (config["ablation_tasks"], [name for name in NETWORKS if name not in ("diffuser", "dmemm")]),
    (config["sensitivity_tasks"], POINT_NAMES),
]


rule curves:
    input:
        curves=[
            f"results/curves/{task}/{variant}/seed{seed}.csv"
            for tasks, variants in TRAINED
            for task in tasks
            for variant in variants
            for seed in config["seeds"]
        ],
        mechanisms=expand(
            "results/mechanisms/{task}/{stage}.csv", task=ROWS, stage=["dynamics", "reward"]
        )
        + expand("results/mechanisms/{task}/{stage}.csv", task=config["tasks"]["locomotion"], stage=list(VALUES)),
        code="results/code/curves.txt",
    output:
        **figure_outputs("curves", "Learning curves"),
    log:
        "logs/curves.log",
    benchmark:
        "logs/curves.tsv"
    threads: 1
    resources:
        mem_mb=growing(1000),
        runtime=growing(10),
        gpu=0,
    params:
        **assignments(config, ["tasks", "ablation_tasks", "sensitivity_tasks"]),
        **assignments(config, ["sensitivity_lambda_tr", "sensitivity_lambda_rd", "seeds"]),
    shell:
        "python -m dmemm curves --curves {input.curves:q} --mechanisms {input.mechanisms} --outputs {output} > {log} 2>&1"


rule metrics:
    input:
        tables=["results/table1.csv", "results/table2.csv"],
        code="results/code/tables.txt",
    output:
        metrics="results/metrics.json",
    log:
        "logs/metrics.log",
    benchmark:
        "logs/metrics.tsv"
    threads: 1
    resources:
        mem_mb=growing(1000),
        runtime=growing(10),
        gpu=0,
    shell:
        "python -m dmemm metrics --tables {input.tables} --output {output.metrics} > {log} 2>&1"
