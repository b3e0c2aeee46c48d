"""Commands of the command line that need no torch, one module each."""
