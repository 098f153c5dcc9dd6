"""The HTTP API: the only asynchronous layer. Routers call the stores in a bounded thread pool and never catch."""
