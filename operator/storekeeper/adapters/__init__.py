"""The edges: the only importers of the kubernetes client and of the runtime's HTTP API; the cluster of processes."""
