"""The stage `canary`: a version walks through shadow and ladder, or is withdrawn."""
