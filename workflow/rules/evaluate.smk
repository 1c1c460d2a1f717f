"""Every protocol on every encoder the matrix may score on a benchmark."""


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
        "exec stradavit features --encoder {input.encoder:q} --benchmark {input.benchmark:q}"
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
        evaluation=evaluation_of("folds", "class_weights", "probe"),
    message:
        "Probing {wildcards.encoder} on {wildcards.benchmark}"
    shell:
        "exec stradavit probe --encoder-name {wildcards.encoder:q}"
        " --benchmark-name {wildcards.benchmark:q} --evaluation {params.evaluation:q}"
        " --features {input.features:q} --out {output:q} &> {log:q}"


rule knn:
    """Nearest neighbours among the embedded images, all folds."""
    input:
        features="results/features/{encoder}/{benchmark}.h5",
        code=code("stradavit.evaluation.knn"),
    output:
        "results/metrics/knn/{encoder}/{benchmark}.json",
    log:
        "results/logs/knn/{encoder}-{benchmark}.log",
    benchmark:
        "results/timings/knn/{encoder}-{benchmark}.tsv"
    conda:
        "../../envs/train.yaml"
    params:
        evaluation=evaluation_of("folds", "knn"),
    message:
        "Nearest neighbours of {wildcards.benchmark} by {wildcards.encoder}"
    shell:
        "exec stradavit knn --encoder-name {wildcards.encoder:q}"
        " --benchmark-name {wildcards.benchmark:q} --evaluation {params.evaluation:q}"
        " --features {input.features:q} --out {output:q} &> {log:q}"


rule label_budget:
    """The probe on a few labels of each class, drawn from the training images of each fold."""
    input:
        features="results/features/{encoder}/{benchmark}.h5",
        code=code("stradavit.evaluation.label_budget"),
    output:
        "results/metrics/label_budget/{encoder}/{benchmark}.json",
    log:
        "results/logs/label_budget/{encoder}-{benchmark}.log",
    benchmark:
        "results/timings/label_budget/{encoder}-{benchmark}.tsv"
    conda:
        "../../envs/train.yaml"
    params:
        evaluation=evaluation_of(
            "folds", "probe", "label_budget", without=[("probe", "repeats")]
        ),
    message:
        "Probing {wildcards.encoder} on few labels of {wildcards.benchmark}"
    shell:
        "exec stradavit label-budget --encoder-name {wildcards.encoder:q}"
        " --benchmark-name {wildcards.benchmark:q} --evaluation {params.evaluation:q}"
        " --features {input.features:q} --out {output:q} &> {log:q}"


rule published_split:
    """The probe on a benchmark's own training and test images."""
    input:
        features="results/features/{encoder}/{benchmark}.h5",
        code=code("stradavit.evaluation.published_split"),
    output:
        "results/metrics/published_split/{encoder}/{benchmark}.json",
    log:
        "results/logs/published_split/{encoder}-{benchmark}.log",
    benchmark:
        "results/timings/published_split/{encoder}-{benchmark}.tsv"
    conda:
        "../../envs/train.yaml"
    params:
        evaluation=evaluation_of(
            "class_weights",
            "probe",
            "published_split",
            without=[("probe", "repeats")],
        ),
    message:
        "Probing {wildcards.encoder} on the published split of {wildcards.benchmark}"
    shell:
        "exec stradavit published-split --encoder-name {wildcards.encoder:q}"
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
        evaluation=evaluation_of("folds", "class_weights", "finetune"),
    message:
        "Fine-tuning {wildcards.encoder} on {wildcards.benchmark}"
    shell:
        "exec stradavit finetune --encoder-name {wildcards.encoder:q}"
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
        evaluation=evaluation_of("folds"),
        folder=lambda wildcards, output: Path(output[0]).parents[1],
    message:
        "Scoring yardsticks on {wildcards.benchmark}"
    shell:
        "exec stradavit yardsticks --benchmark-name {wildcards.benchmark:q}"
        " --evaluation {params.evaluation:q} --benchmark {input.benchmark:q}"
        " --out {params.folder:q} &> {log:q}"


rule leakage:
    """Images that show the same sky, and whether folds part them."""
    input:
        benchmark="results/benchmarks/{benchmark}.h5",
        code=code("stradavit.evaluation.leakage"),
    output:
        "results/leakage/{benchmark}.json",
    log:
        "results/logs/leakage/{benchmark}.log",
    benchmark:
        "results/timings/leakage/{benchmark}.tsv"
    conda:
        "../../envs/train.yaml"
    params:
        evaluation=evaluation_of("folds", "leakage"),
    message:
        "Searching {wildcards.benchmark} for images of the same sky"
    shell:
        "exec stradavit leakage --benchmark-name {wildcards.benchmark:q}"
        " --evaluation {params.evaluation:q} --benchmark {input.benchmark:q}"
        " --out {output:q} &> {log:q}"
