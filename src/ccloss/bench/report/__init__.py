"""Tables and figures, rebuilt from records; nothing here trains."""
