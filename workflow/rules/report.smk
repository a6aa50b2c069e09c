# Scores → tables, Figure 1, metrics. Rows and columns come in the order of params.yaml's lists.
PUBLISHED = "workflow/resources/published.csv"
# `dmemm` is the point at lambda_tr and lambda_rd themselves.
POINT_NAMES = [
    f"{key}={value}" for key in POINTS for value in config[f"sensitivity_{key}"] if value != config[key]
]


def scores(tasks, variants):
    return expand(
        "results/eval/{variant}/{task}/seed{seed}.json", task=tasks, variant=variants, seed=config["seeds"]
    )


TABLES = {
    # number: (keys of the lists it is made of, score files)
    1: (
        ["tasks", "seeds"],
        scores([name for name in config["tasks"] if not TASKS[name].has_goal], ["diffuser", "dmemm"]),
    ),
    2: (
        ["tasks", "mazes", "seeds"],
        scores(
            [name for name in config["tasks"] if TASKS[name].has_goal] + [f"multi2d-{maze}" for maze in config["mazes"]],
            ["diffuser", "dmemm"],
        ),
    ),
    3: (
        ["ablation_tasks", "seeds"],
        scores(config["ablation_tasks"], ["dmemm", "wo_weighting", "wo_lambda_tr", "wo_lambda_rd", "wo_tr_guide"]),
    ),
}


def table_rule(number, keys, files):
    rule:
        name:
            f"table{number}"
        input:
            scores=files,
            published=PUBLISHED,
            code=sources("dmemm.reporting.tables"),
        output:
            csv=f"results/table{number}.csv",
            markdown=f"results/table{number}.md",
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
            " --scores {input.scores:q} --published {input.published} --csv {output.csv} --markdown {output.markdown}"
            + (" --long {output.long}" if number == 2 else "")
            + " > {log} 2>&1"


for number, (keys, files) in TABLES.items():
    table_rule(number, keys, files)


rule figure1:
    input:
        scores=scores(config["sensitivity_tasks"], ["dmemm", *POINT_NAMES]),
        code=sources("dmemm.reporting.figures"),
    output:
        png="results/figure1.png",
        pdf="results/figure1.pdf",
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
        " --outputs {output.png} {output.pdf} > {log} 2>&1"


rule metrics:
    input:
        tables=["results/table1.csv", "results/table2.csv"],
        code=sources("dmemm.reporting.tables"),
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
