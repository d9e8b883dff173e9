"""Path datasets as training reads them: records, splits, examples."""
