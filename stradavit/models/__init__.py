"""Networks and their files: the ViT with registers, its MAE decoder, DINOv2, the projection head."""
