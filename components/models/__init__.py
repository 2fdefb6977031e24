"""The user's model: its code, built, looked at, saved, loaded and scored."""
