"""What a pass costs and gains: answers, metrics, size, speed."""
