"""Reads only: from live objects, pods' words and the runtime's own, to the values that plans decide on."""
