"""Both protocols of the paper on every encoder the matrix may score on a benchmark."""


rule features:
    """Embed the eight orientations of every image of a benchmark once."""
    input:
        encoder="results/encoders/{encoder}/model.safetensors",
        benchmark="results/benchmarks/{benchmark}.h5",
        code=code("stradavit.evaluation.features"),
    output:
        "results/features/{encoder}/{benchmark}.h5",
    log:
        "results/logs/features/{encoder}-{benchmark}.log",
    benchmark:
        "results/timings/features/{encoder}-{benchmark}.tsv"
    conda:
        "../../envs/train.yaml"
    threads: THREADS
    resources:
        gpu=gpus,
        loader=LOADER,
    message:
        "Embedding {wildcards.benchmark} by {wildcards.encoder}"
    shell:
        "stradavit features --encoder {input.encoder:q} --benchmark {input.benchmark:q}"
        " --out {output:q} --loader {resources.loader:q} &> {log:q}"


rule probe:
    """Strict linear probe on the embedded images, all folds."""
    input:
        features="results/features/{encoder}/{benchmark}.h5",
        code=code("stradavit.evaluation.probe"),
    output:
        "results/metrics/linear_probe/{encoder}/{benchmark}.json",
    log:
        "results/logs/probe/{encoder}-{benchmark}.log",
    benchmark:
        "results/timings/probe/{encoder}-{benchmark}.tsv"
    conda:
        "../../envs/train.yaml"
    params:
        evaluation=dump(SETTINGS.evaluation, "finetune", "protocols"),
    message:
        "Probing {wildcards.encoder} on {wildcards.benchmark}"
    shell:
        "stradavit probe --encoder-name {wildcards.encoder:q}"
        " --benchmark-name {wildcards.benchmark:q} --evaluation {params.evaluation:q}"
        " --features {input.features:q} --out {output:q} &> {log:q}"


rule finetune:
    """Full fine-tuning, all folds."""
    input:
        encoder="results/encoders/{encoder}/model.safetensors",
        benchmark="results/benchmarks/{benchmark}.h5",
        code=code("stradavit.evaluation.finetune"),
    output:
        "results/metrics/finetune/{encoder}/{benchmark}.json",
    log:
        "results/logs/finetune/{encoder}-{benchmark}.log",
    benchmark:
        "results/timings/finetune/{encoder}-{benchmark}.tsv"
    conda:
        "../../envs/train.yaml"
    threads: THREADS
    resources:
        gpu=gpus,
        loader=LOADER,
    params:
        evaluation=dump(SETTINGS.evaluation, "probe", "protocols"),
    message:
        "Fine-tuning {wildcards.encoder} on {wildcards.benchmark}"
    shell:
        "stradavit finetune --encoder-name {wildcards.encoder:q}"
        " --benchmark-name {wildcards.benchmark:q} --evaluation {params.evaluation:q}"
        " --encoder {input.encoder:q} --benchmark {input.benchmark:q} --out {output:q}"
        " --loader {resources.loader:q} &> {log:q}"


rule yardsticks:
    """Classical methods on pixels, and on flux and size alone, on the folds of the probe."""
    input:
        benchmark="results/benchmarks/{benchmark}.h5",
        code=code("stradavit.evaluation.yardsticks"),
    output:
        expand(
            "results/metrics/yardstick/{name}/{{benchmark}}.json",
            name=YARDSTICKS,
        ),
    log:
        "results/logs/yardsticks/{benchmark}.log",
    benchmark:
        "results/timings/yardsticks/{benchmark}.tsv"
    conda:
        "../../envs/train.yaml"
    params:
        evaluation=dump(SETTINGS.evaluation, "probe", "finetune", "protocols"),
        folder=lambda wildcards, output: Path(output[0]).parents[1],
    message:
        "Scoring yardsticks on {wildcards.benchmark}"
    shell:
        "stradavit yardsticks --benchmark-name {wildcards.benchmark:q}"
        " --evaluation {params.evaluation:q} --benchmark {input.benchmark:q}"
        " --out {params.folder:q} &> {log:q}"
