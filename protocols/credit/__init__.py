"""What `protocols.ssl_credit_assignment` alone needs."""
