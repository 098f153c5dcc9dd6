"""The RuntimeStore: usage counters with time windows, and the response cache of a gateway.

A call goes store (validation, limits, metrics, operation log) → driver (one backend) → for `memory` and `file` the
ledger (all items in memory, changed by commands) → rings (the arithmetic of windows). Keys are made in one place, keys.

Not here yet: limits checked and taken in one step (acquire, settle, release, leases), gauges and moving averages,
metric points, and the drivers redis, sql, mongodb, dynamodb and http. The driver protocol is made for them.
"""
