"""From products to shards of quantised cutouts, and from labelled images to benchmarks."""
