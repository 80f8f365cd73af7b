"""The status page. Nothing of it is imported before it is asked for, but `history`."""
