"""The long-running side: model servers, the traffic in front of them, and their agent."""
