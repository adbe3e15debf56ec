"""The database: connections that wait for it, its tables, and writing in bulk."""
