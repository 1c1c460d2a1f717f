"""Detection: ViTDet on an encoder of the project, its training, its boxes and their scores."""
