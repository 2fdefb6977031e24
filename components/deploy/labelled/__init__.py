"""Labels that come after the promotion: is the version in service worse than the one before it?"""
