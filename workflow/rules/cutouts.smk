"""From FITS products to shards of cutouts, labelled cutouts, and the index a run reads."""


rule cut_part:
    """Tile one part of a survey into one verified shard."""
    input:
        ledger="results/raw/{survey}/{part}.csv",
        code=code("stradavit.cutouts.stages"),
    output:
        "results/shards/{survey}/{part}.h5",
    log:
        "results/logs/cut_part/{survey}-{part}.log",
    benchmark:
        "results/timings/cut_part/{survey}-{part}.tsv"
    wildcard_constraints:
        survey=names_of(MOSAICS),
    conda:
        "../../envs/data.yaml"
    params:
        survey=survey_cutting,
        cutouts=SETTINGS.cutouts.to_json(),
    message:
        "Cutting part {wildcards.part} of {wildcards.survey}"
    shell:
        "exec stradavit cut-part --name {wildcards.survey:q} --survey {params.survey:q}"
        " --cutouts {params.cutouts:q} --ledger {input.ledger:q} --out {output:q} &> {log:q}"


rule cut_benchmark:
    """Stretch a benchmark's images and put them with their labels into one file."""
    input:
        labels="results/raw/{benchmark}/labels.csv",
        code=code("stradavit.cutouts.stages"),
    output:
        "results/benchmarks/{benchmark}.h5",
    log:
        "results/logs/cut_benchmark/{benchmark}.log",
    benchmark:
        "results/timings/cut_benchmark/{benchmark}.tsv"
    conda:
        "../../envs/data.yaml"
    params:
        benchmark=benchmark_cutting,
    message:
        "Cutting the benchmark {wildcards.benchmark}"
    shell:
        "exec stradavit cut-benchmark --name {wildcards.benchmark:q}"
        " --benchmark {params.benchmark:q} --labels {input.labels:q} --out {output:q} &> {log:q}"


rule cut_corpus:
    """Index the cutouts a run may see: all shards less the sky of the guarded benchmarks."""
    input:
        shards=corpus_shards,
        guards=corpus_guards,
        code=code("stradavit.cutouts.stages"),
    output:
        "results/corpora/{corpus}.h5",
    log:
        "results/logs/cut_corpus/{corpus}.log",
    benchmark:
        "results/timings/cut_corpus/{corpus}.tsv"
    conda:
        "../../envs/data.yaml"
    params:
        radii=guard_radii,
    message:
        "Indexing the corpus {wildcards.corpus}"
    shell:
        "exec stradavit cut-corpus --name {wildcards.corpus:q} --guard-arcmin {params.radii:q}"
        " --guards {input.guards:q} --out {output:q} --shards {input.shards:q} &> {log:q}"
