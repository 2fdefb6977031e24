"""What steps hand on and services exchange: small, typed, versioned JSON documents."""
