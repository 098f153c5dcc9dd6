"""What makes a store movable: its identity in the data, the fence lock, dirty marks, export."""
