# The phases of dvc.yaml: `snakemake all_train` makes every network that the tables need.
EVALUATED = BOTH | TABLES[3][1] | gather(SCORES, config["sensitivity_tasks"], ["dmemm", *POINTS])
PHASES = {
    "download": expand(PATHS["raw"], task=ROWS),
    "segment": expand(PATHS["segments"], task=ROWS),
    "dynamics": expand(PATHS["dynamics"], task=NEEDED["dynamics"], seed=config["seeds"]),
    "reward": expand(PATHS["reward"], task=NEEDED["reward"], seed=config["seeds"]),
    "value": [
        path
        for name in ("value", "plan_value")
        for path in expand(PATHS[name], task=NEEDED[name], seed=config["seeds"])
    ],
    "train": [*NETWORKS, *gather(RECORDS, ROWS, COLUMNS)],
    "evaluate": list(EVALUATED),
    "consistency": list(CONSISTENCY),
}

for stage, files in PHASES.items():

    rule:
        name:
            f"all_{stage}"
        input:
            files,
