"""Layer 2, edges: intentions become system calls and calls to other servers. No policy."""
