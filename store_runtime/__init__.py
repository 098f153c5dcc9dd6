"""The stores themselves, their HTTP API and their jobs. Knows databases; never imports Kubernetes."""
