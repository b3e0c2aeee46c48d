"""What the workers do, one module for each kind of message."""
