"""How encoders are scored: folds, strict linear probe, fine-tuning, metrics (paper, section 9)."""
