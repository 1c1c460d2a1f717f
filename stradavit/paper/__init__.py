"""The paper's tables and figures, drawn from metrics, corpora and settings alone."""
