"""supervisord, which keeps the processes of one machine."""
