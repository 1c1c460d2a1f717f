"""From images with boxes to ViTDet and its scores."""


rule acquire_detection:
    """Bring a detection set to this disk: pictures and annotations, or truth catalogues."""
    input:
        files=detection_files,
        ledgers=detection_ledgers,
        code=detection_code,
    output:
        "results/raw/{detection}/sources.json",
    log:
        "results/logs/acquire_detection/{detection}.log",
    benchmark:
        "results/timings/acquire_detection/{detection}.tsv"
    # What came stays: each try asks only for the rest.
    retries: 3
    conda:
        "../../envs/data.yaml"
    resources:
        archives=ARCHIVES,
        downloads=detection_downloads,
    params:
        detection=detection_source,
    message:
        "Acquiring the detection set {wildcards.detection}"
    shell:
        "exec stradavit acquire-detection --name {wildcards.detection:q}"
        " --set {params.detection:q} --ledgers {input.ledgers:q} --out {output:q}"
        " --archives {resources.archives:q} &> {log:q}"


rule cut_detection:
    """Check a detection set and put its images and boxes into one file."""
    input:
        sources="results/raw/{detection}/sources.json",
        code=code("stradavit.cutouts.detection_stages"),
    output:
        "results/detection/{detection}.h5",
    log:
        "results/logs/cut_detection/{detection}.log",
    benchmark:
        "results/timings/cut_detection/{detection}.tsv"
    conda:
        "../../envs/data.yaml"
    params:
        detection=detection_cutting,
        cutouts=SETTINGS.cutouts.to_json(),
    message:
        "Cutting the detection set {wildcards.detection}"
    shell:
        "exec stradavit cut-detection --name {wildcards.detection:q} --set {params.detection:q}"
        " --cutouts {params.cutouts:q} --sources {input.sources:q} --out {output:q} &> {log:q}"


rule cut_chips:
    """Resize the pictures of a detection set into one verified shard."""
    input:
        images=chips_images,
        code=code("stradavit.cutouts.chips"),
    output:
        "results/shards/{survey}/{part}.h5",
    log:
        "results/logs/cut_chips/{survey}-{part}.log",
    benchmark:
        "results/timings/cut_chips/{survey}-{part}.tsv"
    wildcard_constraints:
        survey=names_of(CHIPS),
    conda:
        "../../envs/data.yaml"
    params:
        splits=chips_splits,
        parts=chips_parts,
        size_px=SETTINGS.cutouts.size_px,
    message:
        "Cutting part {wildcards.part} of {wildcards.survey}"
    shell:
        "exec stradavit cut-chips --name {wildcards.survey:q} --detection {input.images:q}"
        " --splits {params.splits} --part {wildcards.part} --parts {params.parts}"
        " --size-px {params.size_px} --out {output:q} &> {log:q}"


rule train_detector:
    """Train ViTDet on an encoder; goes on from its last checkpoint, if there is one."""
    input:
        encoder="results/encoders/{encoder}/model.safetensors",
        images="results/detection/{detection}.h5",
    output:
        "results/detectors/{encoder}/{detection}/s{seed}/model.safetensors",
    log:
        "results/logs/train_detector/{encoder}-{detection}-s{seed}.log",
    benchmark:
        "results/timings/train_detector/{encoder}-{detection}-s{seed}.tsv"
    conda:
        "../../envs/train.yaml"
    threads: THREADS
    resources:
        gpu=gpus,
        loader=LOADER,
    params:
        run=detector_run,
    message:
        "Training a detector on {wildcards.detection} from {wildcards.encoder}"
    shell:
        "exec stradavit train-detector --encoder-name {wildcards.encoder:q}"
        " --set-name {wildcards.detection:q} --encoder {input.encoder:q}"
        " --images {input.images:q} --run {params.run:q} --out {output:q}"
        " --loader {resources.loader:q} &> {log:q}"


rule detect:
    """Find what is in the scored images, and score it as COCO does."""
    input:
        detector="results/detectors/{encoder}/{detection}/s{seed}/model.safetensors",
        images="results/detection/{detection}.h5",
        sources="results/raw/{detection}/sources.json",
        code=code("stradavit.detection.detect"),
    output:
        metrics="results/metrics/detection/{encoder}/{detection}/s{seed}.json",
        # Beside the metrics, for the figures.
        found="results/metrics/detection/{encoder}/{detection}/s{seed}.detections.json",
    log:
        "results/logs/detect/{encoder}-{detection}-s{seed}.log",
    benchmark:
        "results/timings/detect/{encoder}-{detection}-s{seed}.tsv"
    conda:
        "../../envs/train.yaml"
    threads: THREADS
    resources:
        gpu=gpus,
        loader=LOADER,
    params:
        split=scored_split,
    message:
        "Detecting on {wildcards.detection} from {wildcards.encoder}"
    shell:
        "exec stradavit detect --encoder-name {wildcards.encoder:q}"
        " --set-name {wildcards.detection:q} --detector {input.detector:q}"
        " --images {input.images:q} --sources {input.sources:q} --split {params.split}"
        " --out {output.metrics:q} --loader {resources.loader:q} &> {log:q}"
