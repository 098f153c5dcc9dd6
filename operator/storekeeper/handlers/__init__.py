"""The operator as a process: watches, the queue, the lease, health. The only importers of kopf."""
