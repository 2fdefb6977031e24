"""A request as every protocol has it: its message, its rows, its encodings."""
