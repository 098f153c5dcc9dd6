"""The language that the operator and the runtime share: backends, retention, quantities, documents.

A leaf: imports nothing of the project but errors. The CRD models are built from these models.
"""
