"""New pipeline folders: from the template, or from a table."""
