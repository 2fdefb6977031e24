"""Take a package into production, watched by a sequential judge."""
