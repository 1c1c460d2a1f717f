"""Networks and their files: ViT with registers, MAE decoder, DINOv2, projection head."""
