"""The drivers of a RuntimeStore, one module a backend; `ledgered` is what memory and file share."""
