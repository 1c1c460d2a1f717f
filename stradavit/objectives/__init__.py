"""What is minimised: three reconstruction losses, three contrastive ones."""
