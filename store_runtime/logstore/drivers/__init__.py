"""One module a backend, over the SQL that they share."""
