"""What makes a store movable: its identity in the data, the fence lock, dirty marks and export (design: «Moving a store»)."""
