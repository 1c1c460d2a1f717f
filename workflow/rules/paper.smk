"""The paper's tables and figures."""


rule tables:
    """Every table of the paper that the config's matrix fills, as CSV, Markdown and LaTeX."""
    input:
        metrics=metrics,
        detection=detection_metrics,
        images=detection_images,
        corpora=paper_corpora,
        benchmarks=paper_benchmarks,
        leakage=paper_leakage,
        code=code("stradavit.paper.tables"),
    output:
        report(
            directory("results/tables"),
            patterns=["{table}.csv"],
            caption="../report/tables.rst",
            category="Tables",
        ),
    log:
        "results/logs/tables.log",
    benchmark:
        "results/timings/tables.tsv"
    conda:
        "../../envs/paper.yaml"
    params:
        settings=paper_settings,
    message:
        "Writing the tables"
    shell:
        "exec stradavit tables --settings {params.settings:q} --results results"
        " --out {output:q} &> {log:q}"


rule figures:
    """Views, pairs, benchmark examples, confusion matrices, training curves."""
    input:
        metrics=metrics,
        detection=detection_metrics,
        images=detection_images,
        corpora=paper_corpora,
        benchmarks=paper_benchmarks,
        chips=chips_encoders,
        code=code("stradavit.paper.figures"),
    output:
        report(
            directory("results/figures"),
            patterns=["{figure}.png"],
            caption="../report/figures.rst",
            category="Figures",
        ),
    log:
        "results/logs/figures.log",
    benchmark:
        "results/timings/figures.tsv"
    conda:
        "../../envs/paper.yaml"
    params:
        settings=paper_settings,
    message:
        "Drawing the figures"
    shell:
        "exec stradavit figures --settings {params.settings:q} --results results"
        " --out {output:q} &> {log:q}"
