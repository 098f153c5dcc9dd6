"""What changes a backend without serving it: each job holds the data's lock, reports once and can be run again."""
