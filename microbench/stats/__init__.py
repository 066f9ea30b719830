"""Pure numbers: envelopes, medians and intervals, change points. Knows nothing of devices or files."""
