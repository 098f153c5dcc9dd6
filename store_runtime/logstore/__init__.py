"""Request logs: the record of every request that a gateway handled.

Histograms, rankings, facets, content search, tool logs, async jobs and the other columns of the field's log stores are
not here yet. What is here is final in shape: a narrow row that is filtered and summed, its payload apart.
"""
