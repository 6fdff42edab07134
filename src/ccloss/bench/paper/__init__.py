"""The paper as data: its tables, its published numbers, and its claims."""
