# Data set → windows.


rule download:
    input:
        unpack(inputs("download")),
        policies=sorted(str(path) for path in Path("dmemm/data/policies").glob("*.safetensors")),
    output:
        raw=PATHS["raw"],
        statistics=PATHS["statistics"],
    log:
        "logs/download/{task}.log",
    benchmark:
        "logs/download/{task}.tsv"
    wildcard_constraints:
        task=WITH_DATA,
    conda:
        "../envs/dmemm.yaml"
    threads: 1
    resources:
        mem_mb=growing(4000),
        runtime=growing(60),
        gpu=0,
    params:
        set=settings("download"),
        origin=origin("download"),
        own=contents("download"),
    shell:
        "python -m dmemm download {wildcards.task} --output {output.raw} --statistics {output.statistics}"
        " --set {params.set:q} > {log} 2>&1"


rule segment:
    input:
        unpack(inputs("segment")),
    output:
        segments=PATHS["segments"],
    log:
        "logs/segment/{task}.log",
    benchmark:
        "logs/segment/{task}.tsv"
    wildcard_constraints:
        task=WITH_DATA,
    conda:
        "../envs/dmemm.yaml"
    threads: 1
    resources:
        mem_mb=growing(4000),
        runtime=growing(30),
        gpu=0,
    params:
        set=settings("segment"),
        origin=origin("segment"),
    shell:
        "python -m dmemm segment {wildcards.task} --raw {input.raw} --output {output.segments}"
        " --set {params.set:q} > {log} 2>&1"
