"""stradavit: from radio survey mosaics to pretrained ViT encoders and the paper's tables."""

__version__ = "0.1.0"
