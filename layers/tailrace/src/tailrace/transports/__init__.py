"""How a writer's calls reach the log: through the publish function, or straight to the
tables."""
