"""The embedded sky: real FITS files of surveys and labelled benchmarks, drawn from a seed."""
