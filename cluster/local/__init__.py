"""The Ray cluster that `cluster up` starts on this machine."""
