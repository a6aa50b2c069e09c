# Data set → windows.


rule download:
    input:
        task=TASK,
        code="results/code/download.txt",
        policies=sorted(str(path) for path in Path("dmemm/data/policies").glob("*") if path.is_file()),
    output:
        raw=RAW,
        statistics=STATISTICS,
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
        **assignments(config, DownloadConfig.parameters()),
    shell:
        "python -m dmemm download {wildcards.task} --output {output.raw} --statistics {output.statistics}"
        " --set {params:q} > {log} 2>&1"


rule segment:
    input:
        task=TASK,
        raw=RAW,
        code="results/code/segment.txt",
    output:
        segments=SEGMENTS,
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
        **assignments(config, SegmentConfig.parameters()),
    shell:
        "python -m dmemm segment {wildcards.task} --raw {input.raw} --output {output.segments}"
        " --set {params:q} > {log} 2>&1"
