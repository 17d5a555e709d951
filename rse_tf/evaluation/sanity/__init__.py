"""Is a measured robustness what it seems? One function for each question."""
