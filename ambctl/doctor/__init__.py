"""`ambctl doctor`: check the whole chain from the machine it runs on."""
