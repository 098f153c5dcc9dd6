"""One module a backend of Streams."""
