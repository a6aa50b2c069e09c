# The phases of dvc.yaml: `snakemake all_train` makes every network that the tables need.
EVALUATED = BOTH | TABLES[3][1] | gather(SCORES, config["sensitivity_tasks"], ["dmemm", *POINTS])


def phase_rule(stage, files):
    rule:
        name:
            f"all_{stage}"
        input:
            files,


phase_rule("download", expand(PATHS["raw"], task=ROWS))
phase_rule("segment", expand(PATHS["segments"], task=ROWS))
for stage, names in {"dynamics": ["dynamics"], "reward": ["reward"], "value": ["value", "plan_value"]}.items():
    phase_rule(stage, [path for name in names for path in expand(PATHS[name], task=NEEDED[name])])
phase_rule("train", [*NETWORKS, *gather(RECORDS, ROWS, COLUMNS)])
phase_rule("evaluate", EVALUATED)
phase_rule("consistency", CONSISTENCY)

