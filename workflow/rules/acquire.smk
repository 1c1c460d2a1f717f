"""Where pixels and weights come from."""


rule acquire_manifest:
    """List the products a survey should have, and the part each belongs to."""
    input:
        files=survey_files,
        code=survey_code,
    output:
        "results/manifests/{survey}.csv",
    log:
        "results/logs/acquire_manifest/{survey}.log",
    benchmark:
        "results/timings/acquire_manifest/{survey}.tsv"
    conda:
        "../../envs/data.yaml"
    resources:
        archives=ARCHIVES,
        downloads=survey_downloads,
    params:
        survey=survey_source,
    message:
        "Listing products of {wildcards.survey}"
    shell:
        "exec stradavit acquire-manifest --name {wildcards.survey:q} --survey {params.survey:q}"
        " --out {output:q}"
        " --archives {resources.archives:q} &> {log:q}"


rule acquire_part:
    """Bring one part of a survey to this disk; writes a ledger of what came."""
    input:
        manifest="results/manifests/{survey}.csv",
        code=survey_code,
    output:
        "results/raw/{survey}/{part}.csv",
    log:
        "results/logs/acquire_part/{survey}-{part}.log",
    benchmark:
        "results/timings/acquire_part/{survey}-{part}.tsv"
    # What came stays: each try asks only for the rest.
    retries: 3
    conda:
        "../../envs/data.yaml"
    resources:
        archives=ARCHIVES,
        downloads=survey_downloads,
        casda=casda_jobs,
    params:
        survey=survey_source,
    message:
        "Acquiring part {wildcards.part} of {wildcards.survey}"
    shell:
        "exec stradavit acquire-part --name {wildcards.survey:q} --survey {params.survey:q}"
        " --manifest {input.manifest:q} --part {wildcards.part} --out {output:q}"
        " --archives {resources.archives:q} &> {log:q}"


rule acquire_benchmark:
    """Bring a labelled benchmark to this disk; writes its table of images and labels."""
    input:
        files=benchmark_files,
        code=benchmark_code,
    output:
        "results/raw/{benchmark}/labels.csv",
    log:
        "results/logs/acquire_benchmark/{benchmark}.log",
    benchmark:
        "results/timings/acquire_benchmark/{benchmark}.tsv"
    # What came stays: each try asks only for the rest.
    retries: 3
    conda:
        "../../envs/data.yaml"
    resources:
        archives=ARCHIVES,
        downloads=benchmark_downloads,
    params:
        benchmark=benchmark_source,
    message:
        "Acquiring the benchmark {wildcards.benchmark}"
    shell:
        "exec stradavit acquire-benchmark --name {wildcards.benchmark:q}"
        " --benchmark {params.benchmark:q} --out {output:q}"
        " --archives {resources.archives:q} &> {log:q}"


rule acquire_encoder:
    """Make a starting point: published weights, a local folder, or a scratch draw."""
    input:
        start_files,
    output:
        "results/encoders/{encoder}/model.safetensors",
    log:
        "results/logs/acquire_encoder/{encoder}.log",
    benchmark:
        "results/timings/acquire_encoder/{encoder}.tsv"
    wildcard_constraints:
        encoder=encoders_of("start"),
    conda:
        "../../envs/train.yaml"
    resources:
        archives=ARCHIVES,
    params:
        encoder=start_of,
        seed=start_seed,
    message:
        "Preparing the starting point {wildcards.encoder}"
    shell:
        "exec stradavit acquire-encoder --name {wildcards.encoder:q} --encoder {params.encoder:q}"
        " --seed {params.seed} --out {output:q}"
        " --archives {resources.archives:q} &> {log:q}"
