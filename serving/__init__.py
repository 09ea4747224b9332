"""Configuration of the serving side, and the tools around it. Runs from the repository root; it is never installed."""
