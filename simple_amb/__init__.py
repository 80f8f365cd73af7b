"""simple-amb, the static ambassador: one port, fixed targets, no registry. The standard library is all it needs."""
