"""Decisions: (desired, observed) → steps and a verdict. Pure functions of values, tested as tables."""
