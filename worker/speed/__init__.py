"""How fast propagation is, and what it is to be measured against: the pieces of `labelprop bench`."""
