"""The operator: watches the custom resources and makes the cluster match.

Never opens a database, never reads a Secret.
"""
