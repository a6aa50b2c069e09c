# Data set → windows.


def download_rule(suite):
    rule:
        name:
            f"download_{suite}"
        input:
            task=TASK,
            code="results/code/download.txt",
            policies=sorted(str(path) for path in Path("dmemm/data/policies").glob("*") if path.is_file()),
        output:
            raw=RAW,
            statistics=STATISTICS,
        wildcard_constraints:
            task=OF_SUITE[suite],
        log:
            "logs/download/{task}.log",
        benchmark:
            "logs/download/{task}.tsv"
        threads: 1
        resources:
            mem_mb=growing(4000),
            runtime=growing(60),
            gpu=0,
        params:
            **assignments(config, DownloadConfig.parameters(), suite=suite),
        shell:
            "python -m dmemm download {wildcards.task} --output {output.raw} --statistics {output.statistics}"
            " --set {params:q} > {log} 2>&1"


def segment_rule(suite):
    rule:
        name:
            f"segment_{suite}"
        input:
            task=TASK,
            raw=RAW,
            code="results/code/segment.txt",
        output:
            segments=SEGMENTS,
        wildcard_constraints:
            task=OF_SUITE[suite],
        log:
            "logs/segment/{task}.log",
        benchmark:
            "logs/segment/{task}.tsv"
        threads: 1
        resources:
            mem_mb=growing(4000),
            runtime=growing(30),
            gpu=0,
        params:
            **assignments(config, SegmentConfig.parameters(), suite=suite),
        shell:
            "python -m dmemm segment {wildcards.task} --raw {input.raw} --output {output.segments}"
            " --set {params:q} > {log} 2>&1"


for suite in SUITES:
    download_rule(suite)
    segment_rule(suite)
