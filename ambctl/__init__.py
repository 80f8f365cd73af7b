"""What an operator types: look at the records in etcd, watch them, write and remove one."""
