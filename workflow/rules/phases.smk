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
phase_rule("dynamics", expand(PATHS["dynamics"], task=ROWS))
phase_rule("reward", expand(PATHS["reward"], task=ROWS))
phase_rule("value", expand([PATHS["value"], PATHS["plan_value"]], task=LOCOMOTION))
phase_rule("train", [*NETWORKS, *gather(RECORDS, ROWS, COLUMNS)])
phase_rule("evaluate", EVALUATED)
phase_rule("consistency", CONSISTENCY)

