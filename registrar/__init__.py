"""registrar: keep one leased record in etcd for a container of this host, as long as it serves."""
