"""A cluster made of this machine's processes and files: the second implementation of `adapters/cluster.py`.

    objectfiles ── what is wanted and what is: one JSON file an object, as an API server keeps it
    folders ────── Secrets, ConfigMaps and claims as folders, and how they are mounted
    controllers ── objects → pods: StatefulSets, Deployments, Jobs, CronJobs, garbage
    pods ───────── one thread a pod: init containers, container, probes, back-off
    container ──── one process on its leash, which ends it when the supervisor ends

It interprets the kinds and fields that `manifests/` generates, and refuses what it would have to ignore silently.
NetworkPolicies, PodDisruptionBudgets, ServiceAccounts and resource limits are stored and have no effect here.
"""
