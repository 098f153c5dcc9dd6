"""Streams: named destinations of log entries. A package of the usual shape: model, driver, store, drivers, opening.

A request's body becomes a batch (bodies → guard → flat), a driver makes it durable; queries come back as entries.
"""
