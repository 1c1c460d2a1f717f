"""What a configuration is going to cost, before anything starts: `stradavit plan`."""
