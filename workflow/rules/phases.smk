# The phases of dvc.yaml: `snakemake all_train` makes every network that the tables need.
MODELS = {name: expand(PATHS[name], task=tasks, seed=config["seeds"]) for name, tasks in NEEDED.items()}
EVALUATED = BOTH | TABLES[3][1] | gather(SCORES, config["sensitivity_tasks"], ["dmemm", *POINTS])
PHASES = {
    "download": expand(PATHS["raw"], task=ROWS),
    "segment": expand(PATHS["segments"], task=ROWS),
    "dynamics": MODELS["dynamics"],
    "reward": MODELS["reward"],
    "value": MODELS["value"] + MODELS["plan_value"],
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
