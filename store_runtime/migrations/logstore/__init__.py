"""Migrations of request logs."""
