"""Two real hosts, each a container with systemd and a Docker Engine of its own."""
