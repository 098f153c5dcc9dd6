"""Writes only: the steps of a plan, carried out in order."""
