# Other methods: raw data → policy → scores in the same episodes. Whatever is in dmemm/methods has its paths; dvc.yaml
# has those of params.yaml's `methods`.


def train_method_rule(name, suite):
    rule:
        name:
            f"train_{name}_{suite}"
        input:
            task=TASK,
            raw=RAW,
            code=f"results/code/train_{name}.txt",
        output:
            model=f"results/models/{{task}}/{name}/seed{{seed}}.safetensors",
            report=f"results/training/{{task}}/{name}/seed{{seed}}.json",
        wildcard_constraints:
            task=OF_SUITE[suite],
        log:
            f"logs/train/{{task}}/{name}/seed{{seed}}.log",
        benchmark:
            f"logs/train/{{task}}/{name}/seed{{seed}}.tsv"
        threads: 1
        resources:
            mem_mb=growing(6000),
            runtime=growing(1440),
            gpu=GPU,
        params:
            **assignments(config, MethodConfig.parameters(), suite=suite),
        shell:
            f"python -m dmemm train-method {{wildcards.task}} {name} {{wildcards.seed}} --raw {{input.raw}}"
            " --output {output.model} --report {output.report} --set {params:q} > {log} 2>&1"


def evaluate_method_rule(name, suite, multi2d=False):
    data, task = ("maze2d-{maze}", "multi2d-{maze}") if multi2d else ("{task}", "{task}")

    rule:
        name:
            f"evaluate_multi2d_{name}" if multi2d else f"evaluate_{name}_{suite}"
        input:
            task=TASK.replace("{task}", task),
            model=f"results/models/{data}/{name}/seed{{seed}}.safetensors",
            statistics=STATISTICS.replace("{task}", data),
            code=f"results/code/evaluate_{name}.txt",
        output:
            scores=f"results/eval/{name}/{task}/seed{{seed}}.json",
        wildcard_constraints:
            task=OF_SUITE[suite],
        log:
            f"logs/evaluate/{name}/{task}/seed{{seed}}.log",
        benchmark:
            f"logs/evaluate/{name}/{task}/seed{{seed}}.tsv"
        threads: 1
        resources:
            mem_mb=growing(6000),
            runtime=growing(720),
            gpu=GPU,
        params:
            **assignments(config, EpisodesConfig.parameters(), suite=suite),
        shell:
            f"python -m dmemm evaluate-method {argument(task)} {name} {{wildcards.seed}}"
            " --model {input.model} --statistics {input.statistics} --output {output.scores} --set {params:q}"
            " > {log} 2>&1"


def consistency_method_rule(name, suite):
    rule:
        name:
            f"consistency_{name}_{suite}"
        input:
            task=TASK,
            model=f"results/models/{{task}}/{name}/seed{{seed}}.safetensors",
            dynamics=DYNAMICS,
            raw=RAW,
            segments=SEGMENTS,
            code=f"results/code/consistency_{name}.txt",
        output:
            consistency=f"results/consistency/{name}/{{task}}/seed{{seed}}.json",
        wildcard_constraints:
            task=OF_SUITE[suite],
        log:
            f"logs/consistency/{name}/{{task}}/seed{{seed}}.log",
        benchmark:
            f"logs/consistency/{name}/{{task}}/seed{{seed}}.tsv"
        threads: 1
        resources:
            mem_mb=growing(6000),
            runtime=growing(60),
            gpu=GPU,
        shell:
            f"python -m dmemm consistency-method {{wildcards.task}} {name} {{wildcards.seed}}"
            " --model {input.model} --dynamics {input.dynamics} --raw {input.raw} --segments {input.segments}"
            " --output {output.consistency} > {log} 2>&1"


for name in METHODS:
    for suite in SUITES:
        train_method_rule(name, suite)
        evaluate_method_rule(name, suite)
        if name in PLANNING:
            consistency_method_rule(name, suite)
    evaluate_method_rule(name, "maze", multi2d=True)
