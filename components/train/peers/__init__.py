"""The processes of one training: how they meet, sum and end together."""
