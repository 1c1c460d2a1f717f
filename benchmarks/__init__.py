"""Speed beside peers: the same inputs, in turn, in one run; ratios are the result."""
