"""Membership in a group that shares its limits: requests for leases, and the accounts that leases fill."""
