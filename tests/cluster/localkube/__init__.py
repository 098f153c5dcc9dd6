"""A real one-node Kubernetes for the tests: built from source, started in namespaces of its own. See README.md."""
