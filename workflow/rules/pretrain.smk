"""Continued pretraining. Code is no input here: an edited comment must not cost a night."""


rule pretrain_reconstruction:
    """Train one encoder by its objective; goes on from its last checkpoint, if there is one."""
    input:
        corpus=run_corpus,
        start=run_start,
    output:
        "results/encoders/{encoder}/model.safetensors",
    log:
        "results/logs/pretrain_reconstruction/{encoder}.log",
    benchmark:
        "results/timings/pretrain_reconstruction/{encoder}.tsv"
    wildcard_constraints:
        encoder=encoders_of("reconstruction"),
    conda:
        "../../envs/train.yaml"
    threads: TRAINING_THREADS
    resources:
        gpu=training_gpus,
        loader=LOADER,
    params:
        settings=run_settings,
    message:
        "Pretraining {wildcards.encoder}"
    shell:
        # Not a child of the shell, which could die of a signal while a checkpoint is written.
        "exec stradavit pretrain --settings {params.settings:q} --corpus {input.corpus:q}"
        " --start-from {input.start:q} --out {output:q} --loader {resources.loader:q} &> {log:q}"


use rule pretrain_reconstruction as pretrain_contrastive with:
    log:
        "results/logs/pretrain_contrastive/{encoder}.log",
    benchmark:
        "results/timings/pretrain_contrastive/{encoder}.tsv"
    wildcard_constraints:
        encoder=encoders_of("contrastive", "two_stage"),
