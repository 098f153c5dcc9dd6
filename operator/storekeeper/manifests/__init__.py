"""What Kubernetes objects look like: pure functions of values. No clock, no client, no environment."""
