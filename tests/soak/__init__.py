"""The soak: hours of mixed load through real parts, a random fault every half minute, and nothing unexplained."""
