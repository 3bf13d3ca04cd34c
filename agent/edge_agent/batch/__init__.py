"""Answering many inputs into one Parquet file, on as many cores as given, through any interruption."""
