"""A run's folder: Parquet shards, their index, and who may write."""
