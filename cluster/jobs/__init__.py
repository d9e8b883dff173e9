"""Jobs on a cluster, through Ray's Jobs API."""
