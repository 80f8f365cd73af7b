"""The dynamic ambassador: watches a service and balances connections over its instances."""
